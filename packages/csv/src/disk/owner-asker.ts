// Asks the volume's owner until it answers: owners die, move, and have no room; whoever needs an extent waits. Only a
// refusal that will not change, or the disk's end, is an error.

import type { Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isFinal } from '../owner/refusal.ts'
import type { OwnerCall, VolumeBody, VolumeKind, VolumeReply } from '../owner/request.ts'

/** Errors that say for sure that nothing was done. After any other the question may have been obeyed, or may yet arrive. */
const NOTHING_DONE: ReadonlySet<string> = new Set(['owner-away', 'owner-busy'])

/** Of a first write to a shared extent also by a refusal for the moment. A final one says that the disk is not ours any more. */
export function isNothingUnshared(code: string): boolean {
  return NOTHING_DONE.has(code) || code === 'volume-full' || code === 'extent-unreadable'
}

const FIRST_DELAY_MS = 50
const LONGEST_DELAY_MS = 2_000

/** Stands around each try of a question. */
export type Attempt = <T>(ask: () => Promise<T>) => Promise<T>

export class OwnerAsker {
  readonly #call: OwnerCall
  readonly #timers: Timers
  readonly #onWaiting: (reason: string | null) => void
  /** Questions between two tries: ended by `close`. */
  readonly #sleeping = new Map<Timer, () => void>()
  #asking = 0
  #unanswered = 0
  #closed = false

  /** `onWaiting`: why some question has no answer yet; null when all that did have one. */
  constructor(call: OwnerCall, timers: Timers, onWaiting: (reason: string | null) => void) {
    this.#call = call
    this.#timers = timers
    this.#onWaiting = onWaiting
  }

  get asking(): number {
    return this.#asking
  }

  /**
   * `definite`: a passing refusal that the caller wants to hear of, unless an earlier try may have been, or may yet be,
   * obeyed: then it is asked until that is settled. Rejects with `disk-closed` when the disk ends.
   */
  async ask<K extends VolumeKind>(
    kind: K,
    body: () => VolumeBody<K>,
    definite = '',
    attempt: Attempt = ask => ask(),
  ): Promise<VolumeReply<K>> {
    let delay = FIRST_DELAY_MS
    let waiting = false
    let uncertain = false
    this.#asking += 1
    try {
      for (;;) {
        // A question that has not failed yet is still asked: its request was in flight before the end.
        if (this.#closed && waiting) throw closed()
        try {
          return await attempt(() => this.#call(kind, body()))
        } catch (error) {
          const code = errorCode(error)
          if (isFinal(code) || (code === definite && !uncertain)) throw error
          if (code !== definite && !NOTHING_DONE.has(code)) uncertain = true
          if (!waiting) this.#unanswered += 1
          waiting = true
          this.#onWaiting(code === 'unknown' ? errorMessage(error) : code)
        }
        await this.#sleep(delay)
        delay = Math.min(delay * 2, LONGEST_DELAY_MS)
      }
    } finally {
      this.#asking -= 1
      if (waiting) {
        this.#unanswered -= 1
        if (this.#unanswered === 0) this.#onWaiting(null)
      }
    }
  }

  close(): void {
    this.#closed = true
    for (const [timer, wake] of this.#sleeping) {
      timer.cancel()
      wake()
    }
    this.#sleeping.clear()
  }

  #sleep(delayMs: number): Promise<void> {
    if (this.#closed) return Promise.resolve()
    return new Promise(resolve => {
      const timer = this.#timers.after(delayMs, () => {
        this.#sleeping.delete(timer)
        resolve()
      })
      this.#sleeping.set(timer, resolve)
    })
  }
}

function closed(): StellwerkError {
  return new StellwerkError('disk-closed', 'the disk was closed while it waited for the volume owner')
}
