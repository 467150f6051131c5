// Whether a QEMU hangs: one that does runs no guest, and says nothing of it. Counted by looks, not by time: when this process has slept
// itself, there was one.

import type { Timer, Timers } from '@stellwerk/runtime/environment.ts'

/** How often it is asked whether it is there, and how many looks may find it without an answer. */
const LOOK_MS = 2_500
const SILENT_LOOKS = 4
const SILENT_S = (SILENT_LOOKS * LOOK_MS) / 1_000
/** It may wait for what its guest has asked for: after so many looks whoever can ends that. */
const WAITING_LOOKS = 2

export interface SilenceOptions {
  /** It has a reason to be silent, which somebody else watches. */
  readonly isExpected: () => boolean
  /** Settles when it has answered, whatever it says. */
  readonly ask: () => Promise<unknown>
  /** It may be waiting for the guest's requests. */
  readonly waits: () => void
  /** It has answered after all. */
  readonly answers: () => void
  /** Gives whether it was ended; if not, it is asked anew. */
  readonly ends: (why: string) => boolean
}

export class SilenceWatch {
  readonly #timers: Timers
  readonly #options: SilenceOptions
  #look: Timer | null = null
  /** Looks since it has not answered the last one. */
  #silentLooks = 0
  #stopped = false

  constructor(timers: Timers, options: SilenceOptions) {
    this.#timers = timers
    this.#options = options
    this.#lookAgain()
  }

  stop(): void {
    this.#stopped = true
    this.#look?.cancel()
  }

  #lookAgain(): void {
    this.#look = this.#timers.after(LOOK_MS, () => {
      if (this.#options.isExpected()) this.#silentLooks = 0
      else if (this.#silentLooks === 0) this.#ask()
      else if (++this.#silentLooks > SILENT_LOOKS) {
        if (this.#options.ends(`it has not answered for ${SILENT_S} s`)) return
        this.#silentLooks = 0
      } else if (this.#silentLooks > WAITING_LOOKS) this.#options.waits()
      this.#lookAgain()
    })
  }

  #ask(): void {
    this.#silentLooks = 1
    const answered = (): void => {
      const hasWaited = this.#silentLooks > WAITING_LOOKS
      this.#silentLooks = 0
      if (hasWaited && !this.#stopped) this.#options.answers()
    }
    this.#options.ask().then(answered, answered)
  }

  /** Settles as `done` does. One that has not come to it after as many looks is ended, which has to settle it. */
  async insist<T>(on: string, done: Promise<T>): Promise<T> {
    let looks = 0
    let look: Timer | null = null
    const again = (): void => {
      look = this.#timers.after(LOOK_MS, () => {
        if (++looks > SILENT_LOOKS && this.#options.ends(`it did not ${on} within ${SILENT_S} s`)) return
        again()
      })
    }
    again()
    try {
      return await done
    } finally {
      const last = look as Timer | null
      last?.cancel()
    }
  }
}
