// A console by lines: what the guest says, and lines for it to read, typed or piped in. These go through the coordinator.

import { createInterface, type Interface } from 'node:readline'
import { describeError, errorCode } from '@stellwerk/runtime/errors.ts'
import { pathOf } from '../api-client/client.ts'
import type { ConsoleMode, ConsoleParts } from './console-mode.ts'
import { StandingLine } from './standing-line.ts'

/** So long the answer to the last line of a pipe is listened for. */
const ANSWER_MS = 1_000
const AGAIN_MS = 200
const PATIENCE_MS = 5_000
/** Of a guest that is there, and reads nothing for a moment. */
const IN_A_MOMENT: ReadonlySet<string> = new Set(['migrating', 'console-busy'])

export class ConsoleLines implements ConsoleMode {
  readonly hears: ConsoleMode['hears']
  readonly whileAway = ', but takes no input until it does'
  readonly #parts: ConsoleParts
  #reader: Interface | null = null
  #isRefused = false

  constructor(parts: ConsoleParts) {
    this.#parts = parts
    const { name, terminal } = parts
    const standing = new StandingLine()
    this.hears = {
      onLine: line => {
        if (line.vm === name) terminal.write(standing.whole(line.line))
      },
      onPrompt: (vm, text) => {
        if (vm === name) terminal.write(standing.begin(text))
      },
    }
  }

  get isRefused(): boolean {
    return this.#isRefused
  }

  /** What comes waits until the answer can be heard; then it goes in the order in which it came. */
  begin(): void {
    const { env, leave, heard } = this.#parts
    let sending = heard
    let hasSent = false
    const reader = createInterface({ input: process.stdin })
    this.#reader = reader
    reader.on('line', line => {
      hasSent = true
      sending = sending.then(() => this.#send(line))
    })
    reader.once('close', async () => {
      await sending
      if (hasSent) await new Promise<void>(resolve => void env.timers.after(ANSWER_MS, resolve))
      leave()
    })
  }

  async #send(line: string): Promise<void> {
    const { client, env, name, terminal } = this.#parts
    const until = env.clock.now() + PATIENCE_MS
    for (;;) {
      try {
        await client.post(pathOf('vms', name, 'input'), { line })
        return
      } catch (error) {
        if (IN_A_MOMENT.has(errorCode(error)) && env.clock.now() < until) {
          await new Promise<void>(resolve => void env.timers.after(AGAIN_MS, resolve))
          continue
        }
        this.#isRefused = true
        terminal.err(`stellwerk: the line was not taken: ${describeError(error)}`)
        return
      }
    }
  }

  async end(): Promise<void> {
    this.#reader?.close()
  }

  say(line: string): void {
    this.#parts.terminal.err(line)
  }
}
