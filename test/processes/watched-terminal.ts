// A command on a real terminal, one that util-linux's `script` makes: what stands on it, what is typed, and its size. Not a test.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { VtScreen } from 'stellwerk/terminal/testing/vt-screen.ts'
import { expect } from 'vitest'
import type { Running, Stellwerk } from './stellwerk.ts'

interface Size {
  readonly columns: number
  readonly rows: number
}

export class WatchedTerminal {
  readonly screen: VtScreen
  readonly ended: Promise<number | null>
  readonly #stellwerk: Stellwerk
  readonly #running: Running

  /** Behind the command the terminal says in which mode it was left. `isAsked`: it answers what a shell asks it. */
  constructor(stellwerk: Stellwerk, { columns, rows }: Size, words: readonly string[], isAsked = false) {
    this.#stellwerk = stellwerk
    this.screen = new VtScreen(columns, rows, isAsked ? text => this.type(text) : null)
    const command = [...stellwerk.command, ...words].map(word => `'${word}'`).join(' ')
    const shell = `tty > tty; stty cols ${columns} rows ${rows}; ${command}; code=$?; stty -a; exit $code`
    this.#running = stellwerk.startTyped('script', '-qfec', shell, '/dev/null')
    this.#running.process.stdout?.on('data', (chunk: Buffer) => this.screen.write(chunk.toString()))
    this.ended = this.#running.ended.then(({ code }) => code)
  }

  async shows(pattern: RegExp): Promise<void> {
    await expect.poll(() => this.screen.text, { timeout: 60_000, interval: 20 }).toMatch(pattern)
  }

  type(keys: string): void {
    this.#running.process.stdin?.write(keys)
  }

  /** As Ctrl-S does; gives the way to go on. */
  hold(): () => void {
    const { stdout } = this.#running.process
    stdout?.pause()
    return () => stdout?.resume()
  }

  /** As a window does that is dragged: the terminal tells the command. */
  async resize({ columns, rows }: Size): Promise<void> {
    const tty = readFileSync(join(this.#stellwerk.directory, 'tty'), 'utf8').trim()
    this.screen.resize(columns, rows)
    const words = ['-F', tty, 'cols', String(columns), 'rows', String(rows)]
    expect(await this.#stellwerk.tool('stty', ...words)).toEqual({ code: 0, lines: [] })
  }
}
