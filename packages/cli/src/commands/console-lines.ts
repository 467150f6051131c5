// A console by lines: what the guest says, and lines for it to read, typed or piped in. These go through the coordinator.

import { createInterface, type Interface } from 'node:readline'
import { describeError, errorCode } from '@stellwerk/runtime/errors.ts'
import { pathOf } from '../api-client/client.ts'
import { NOT_TYPED, PATIENCE_MS } from '../cluster/keyboard.ts'
import type { ConsoleMode, ConsoleParts } from './console-mode.ts'
import { StandingLine } from './standing-line.ts'

/** So long the answer to the last line of a pipe is listened for. */
const ANSWER_MS = 1_000
const AGAIN_MS = 200

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
        // On its way to another host a guest reads nothing for a moment.
        if (NOT_TYPED.has(errorCode(error)) && env.clock.now() < until) {
          await new Promise<void>(resolve => void env.timers.after(AGAIN_MS, resolve))
          continue
        }
        this.#isRefused = true
        terminal.err(`stellwerk: the line was not taken: ${describeError(error)}`)
        return
      }
    }
  }

  end(): void {
    this.#reader?.close()
  }
}
