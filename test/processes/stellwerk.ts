// Runs `stellwerk` as a user does, in a directory of its own, for tests: what it printed, how it ended, and that nothing of
// it is left. Not a test itself.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type Dirent, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { errorCode } from '@stellwerk/runtime/errors.ts'
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
  /** Where `up` keeps its cluster; of other clusters, where their processes' directories lie. */
  readonly state: string
  readonly started = new Set<ChildProcess>()
  /** What everything is started with besides the test's own. */
  readonly environment: Record<string, string> = {}
  /** Words before everything that is started: where it is to run. */
  within: readonly string[] = []

  constructor(name: string, state = '.stellwerk') {
    this.directory = mkdtempSync(join(tmpdir(), `${name}-`))
    this.state = join(this.directory, state)
  }

  /** What runs it, for a shell. */
  readonly command = [NODE, BIN] as const

  start(...words: string[]): Running {
    return this.#spawn(NODE, [BIN, ...words])
  }

  /** What a VM says, until the test is over: its input stays open, and nothing is typed. */
  console(vm: string): Running {
    return this.#spawn(NODE, [BIN, 'vm', 'console', vm], 'pipe')
  }

  async run(...words: string[]): Promise<{ code: number | null; lines: string[] }> {
    const { ended, lines } = this.start(...words)
    return { code: (await ended).code, lines }
  }

  /** Another program, in the same directory. */
  startTool(program: string, ...words: string[]): Running {
    return this.#spawn(program, words)
  }

  /** One that can be typed to. */
  startTyped(program: string, ...words: string[]): Running {
    return this.#spawn(program, words, 'pipe')
  }

  async tool(program: string, ...words: string[]): Promise<{ code: number | null; lines: string[] }> {
    const { ended, lines } = this.startTool(program, ...words)
    return { code: (await ended).code, lines }
  }

  async json<T>(...words: string[]): Promise<T> {
    const { code, lines } = await this.run(...words, '--json')
    expect([code, lines.length]).toEqual([0, 1])
    return JSON.parse(lines[0] ?? '') as T
  }

  /** Pids of `up`'s children and of theirs, as they were recorded before each began. */
  pids(): number[] {
    return this.#children().map(({ pid }) => pid)
  }

  /** Of all that was started below a directory. */
  pidsBelow(directory: string): number[] {
    return childrenBelow(directory).map(({ pid }) => pid)
  }

  /** kill -9 of one of them: `san-a`, `host-a/agent`. Resolves when it is gone. */
  async kill(name: string): Promise<void> {
    const child = this.#children().find(each => each.name === name)
    if (child === undefined) throw new Error(`nothing named ${name} runs`)
    process.kill(child.pid, 'SIGKILL')
    while (alive([child.pid]).length > 0) await new Promise(resolve => setTimeout(resolve, 10))
  }

  /** Stopped for a while, or told to go on. */
  signal(name: string, signal: NodeJS.Signals): void {
    const child = this.#children().find(each => each.name === name)
    if (child === undefined) throw new Error(`nothing named ${name} runs`)
    process.kill(child.pid, signal)
  }

  #children(): readonly RecordedChild[] {
    return existsSync(this.state) ? childrenBelow(this.state) : []
  }

  /** Ends whatever is left and takes the directory away. */
  async remove(): Promise<void> {
    const running = [...this.started].filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    const ended = running.map(child => once(child, 'exit'))
    for (const child of running) child.kill('SIGKILL')
    // One that still ends may still write.
    await Promise.all(ended)
    // What a killed `up`, or a killed guardian, had started ends by itself, at the end of its pipe.
    const pids = childrenBelow(this.directory).map(({ pid }) => pid)
    while (alive(pids).length > 0) await new Promise(resolve => setTimeout(resolve, 50))
    rmSync(this.directory, { recursive: true })
  }

  #spawn(program: string, words: readonly string[], input: 'ignore' | 'pipe' = 'ignore'): Running {
    const [command = '', ...all] = [...this.within, program, ...words]
    const child = spawn(command, all, {
      cwd: this.directory,
      env: { ...process.env, ...this.environment },
      stdio: [input, 'pipe', 'pipe'],
    })
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

/** As Ctrl-C does; it ends in order. */
export async function interrupt({ process, ended }: Running): Promise<void> {
  process.kill('SIGINT')
  expect(await ended).toEqual({ code: 0, signal: null })
}

interface RecordedChild {
  readonly pid: number
  readonly name: string
}

/** As their parents have recorded them before each began. */
export function childrenBelow(directory: string): RecordedChild[] {
  return entriesOf(directory).flatMap(entry => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return childrenBelow(path)
    return entry.name === 'children.json' ? (JSON.parse(readFileSync(path, 'utf8')) as RecordedChild[]) : []
  })
}

/** None where it is gone by now, as a machine's is that has moved away. */
function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return []
    throw error
  }
}

export function alive(pids: readonly number[]): number[] {
  return pids.filter(pid => identifyProcess(pid) !== null)
}
