// A terminal that follows a guest's serial port: it is told the next bytes when it has shown the last. One that shows nothing for a while
// (its user has stopped it, its link is slow) is told the newest when it goes on; that some are missing it sees by their place.

import { CONSOLE_OUTPUT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { PortPlace } from '../hypervisor/hypervisor.ts'

/** For a terminal that shows nothing so much waits; then all but the newest is left out. */
const WAITING_MAX_BYTES = 256 * 1024
const KEPT_BYTES = 64 * 1024

export interface OutputBody extends PortPlace {
  readonly vm: string
  readonly host: string
  readonly bytes: Uint8Array
}

/** Resolves when it stands on the terminal. */
export type AskFollower = (name: string, body: OutputBody) => Promise<unknown>

interface Waiting extends PortPlace {
  readonly bytes: Uint8Array
}

export class TerminalFollower {
  readonly #of: { readonly vm: string; readonly host: string }
  readonly #ask: (body: OutputBody) => Promise<unknown>
  #waiting: Waiting[] = []
  #waitingBytes = 0
  #isTelling = false
  #isOver = false

  constructor(of: { readonly vm: string; readonly host: string }, ask: (body: OutputBody) => Promise<unknown>) {
    this.#of = of
    this.#ask = ask
  }

  output(vm: string, bytes: Uint8Array, { life, at }: PortPlace): void {
    if (vm !== this.#of.vm || this.#isOver) return
    this.#waiting.push({ life, at, bytes })
    this.#waitingBytes += bytes.length
    if (this.#waitingBytes > WAITING_MAX_BYTES) this.#leaveOut()
    if (!this.#isTelling) void this.#tellAll()
  }

  stop(): void {
    this.#isOver = true
    this.#waiting = []
  }

  #leaveOut(): void {
    while (this.#waitingBytes > KEPT_BYTES) {
      const first = this.#waiting.shift()
      if (first === undefined) return
      const over = Math.min(first.bytes.length, this.#waitingBytes - KEPT_BYTES)
      this.#waitingBytes -= over
      if (over < first.bytes.length) this.#waiting.unshift(behind(first, over))
    }
  }

  async #tellAll(): Promise<void> {
    this.#isTelling = true
    for (let next = this.#next(); next !== null && !this.#isOver; next = this.#next()) {
      try {
        await this.#ask({ ...this.#of, ...next })
      } catch (error) {
        // Slow to show it: it has it, in its order. Otherwise it is gone, or takes nothing; linked anew it follows anew.
        if (errorCode(error) !== 'deadline') this.stop()
      }
    }
    this.#isTelling = false
  }

  /** As much of what is waiting as fits, of one life and without a gap. */
  #next(): Waiting | null {
    const first = this.#waiting[0]
    if (first === undefined) return null
    const parts: Uint8Array[] = []
    let length = 0
    for (let each = this.#waiting[0]; each !== undefined; each = this.#waiting[0]) {
      const room = CONSOLE_OUTPUT_BYTES - length
      if (each.life !== first.life || each.at !== first.at + length || room === 0) break
      this.#waiting.shift()
      const part = each.bytes.subarray(0, room)
      parts.push(part)
      length += part.length
      if (part.length < each.bytes.length) this.#waiting.unshift(behind(each, part.length))
    }
    this.#waitingBytes -= length
    return { life: first.life, at: first.at, bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts) }
  }
}

function behind({ life, at, bytes }: Waiting, length: number): Waiting {
  return { life, at: at + length, bytes: bytes.subarray(length) }
}
