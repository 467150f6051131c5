// A disk whose writers wait because there is no room: on the volume, or on the storage behind it. They wait for as long as it
// takes; whoever runs the guest is told, so that it stands still meanwhile and everybody can see why.

import type { Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { isStorageFull, worse } from './disk-errors.ts'

/** Between two tries of a write that the storage behind the volume had no room for. */
const AGAIN_MS = 500

/** An owner's refusals that mean it, and what is told. */
const FULL: { readonly [code: string]: string } = {
  'volume-full': 'volume full',
  'metadata-full': 'volume full of metadata',
}
const STORAGE_FULL = 'storage full'

export class FullVolume {
  readonly #timers: Timers
  readonly #changed: (why: string | null) => void
  readonly #sleeping = new Map<Timer, () => void>()
  #refused: string | null = null
  #writes = 0
  #closed = false
  #told: string | null = null

  /** `changed`: why there is no room; null when there is. */
  constructor(timers: Timers, changed: (why: string | null) => void) {
    this.#timers = timers
    this.#changed = changed
  }

  /** Why the owner does not answer; null once all it was asked is answered: what it said before counts until then. */
  ownerSaid(reason: string | null): void {
    this.#refused = reason === null ? null : (FULL[reason] ?? this.#refused)
    this.#tell()
  }

  /** `write` is tried until it ends otherwise than for want of room. */
  async untilRoom(write: () => Promise<void>): Promise<void> {
    let waits = false
    let before: unknown = null
    try {
      for (;;) {
        try {
          await write()
          return
        } catch (error) {
          before = worse(error, before)
          if (!isStorageFull(error) || this.#closed) throw before
        }
        if (!waits) this.#writes += 1
        waits = true
        this.#tell()
        await this.#sleep()
        if (this.#closed) throw before
      }
    } finally {
      if (waits) this.#writes -= 1
      this.#tell()
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

  #tell(): void {
    const why = this.#writes > 0 ? STORAGE_FULL : this.#refused
    if (why === this.#told) return
    this.#told = why
    this.#changed(why)
  }

  #sleep(): Promise<void> {
    return new Promise(resolve => {
      const timer = this.#timers.after(AGAIN_MS, () => {
        this.#sleeping.delete(timer)
        resolve()
      })
      this.#sleeping.set(timer, resolve)
    })
  }
}
