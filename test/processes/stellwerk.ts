// Runs `stellwerk` as a user does, in a directory of its own, for tests: what it printed, how it ended, and that nothing of
// it is left. Not a test itself.

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identifyProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { expect } from 'vitest'

const BIN = join(import.meta.dirname, '..', '..', 'packages', 'cli', 'bin', 'stellwerk.js')
const NODE = join(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'node')

export interface Running {
  readonly process: ChildProcess
  readonly lines: string[]
  readonly ended: Promise<{ code: number | null; signal: string | null }>
  /** A line that fits has been printed; rejects when it ends without. */
  said(pattern: RegExp): Promise<string>
}

export class Stellwerk {
  readonly directory: string
  /** Where `up` keeps its cluster. */
  readonly state: string
  readonly started = new Set<ChildProcess>()

  constructor(name: string) {
    this.directory = mkdtempSync(join(tmpdir(), `${name}-`))
    this.state = join(this.directory, '.stellwerk')
  }

  /** What runs it, for a shell. */
  readonly command = [NODE, BIN] as const

  start(...words: string[]): Running {
    return this.#spawn(NODE, [BIN, ...words])
  }

  async run(...words: string[]): Promise<{ code: number | null; lines: string[] }> {
    const { ended, lines } = this.start(...words)
    return { code: (await ended).code, lines }
  }

  /** Another program, in the same directory. */
  async tool(program: string, ...words: string[]): Promise<{ code: number | null; lines: string[] }> {
    const { ended, lines } = this.#spawn(program, words)
    return { code: (await ended).code, lines }
  }

  async json<T>(...words: string[]): Promise<T> {
    const { code, lines } = await this.run(...words, '--json')
    expect([code, lines.length]).toEqual([0, 1])
    return JSON.parse(lines[0] ?? '') as T
  }

  /** Pids of `up`'s children and of theirs, as they were recorded before each began. */
  pids(): number[] {
    const pids: number[] = []
    if (!existsSync(this.state)) return pids
    for (const entry of readdirSync(this.state, { recursive: true, encoding: 'utf8' })) {
      if (!entry.endsWith('children.json')) continue
      const record = JSON.parse(readFileSync(join(this.state, entry), 'utf8')) as { pid: number }[]
      pids.push(...record.map(({ pid }) => pid))
    }
    return pids
  }

  /** Ends whatever is left and takes the directory away. */
  async remove(): Promise<void> {
    for (const child of this.started) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    // What a killed `up` had started ends by itself, at the end of its pipe.
    const pids = this.pids()
    while (alive(pids).length > 0) await new Promise(resolve => setTimeout(resolve, 50))
    rmSync(this.directory, { recursive: true })
  }

  #spawn(program: string, words: readonly string[]): Running {
    const child = spawn(program, words, { cwd: this.directory, stdio: ['ignore', 'pipe', 'pipe'] })
    this.started.add(child)
    const lines: string[] = []
    const waiting = new Set<() => void>()
    const hearer = () => {
      let rest = ''
      return (chunk: Buffer) => {
        const parts = (rest + chunk.toString()).split('\n')
        rest = parts.pop() ?? ''
        lines.push(...parts)
        for (const wake of waiting) wake()
      }
    }
    child.stdout?.on('data', hearer())
    child.stderr?.on('data', hearer())
    const ended = new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, signal) => resolve({ code, signal }))
    })
    const said = (pattern: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const look = () => {
          const found = lines.find(line => pattern.test(line))
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        ended.then(() => reject(new Error(`ended without saying ${pattern}:\n${lines.join('\n')}`)), reject)
        look()
      })
    return { process: child, lines, ended, said }
  }
}

export function alive(pids: readonly number[]): number[] {
  return pids.filter(pid => identifyProcess(pid) !== null)
}
