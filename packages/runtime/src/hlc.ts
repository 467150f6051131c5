// A hybrid logical clock: stamps that follow wall time where they can and causality always. Pure; the caller reads the
// wall clock. It is no source of time for decisions.

import { assert } from './assert.ts'
import type { Hlc } from './environment.ts'
import { HOUR_MS } from './units.ts'

/**
 * How far a peer's stamp may lie ahead of our wall clock and still be followed. Beyond it the peer's clock is plainly
 * wrong, and following would carry its error through the cluster's traces for good.
 */
export const HLC_AHEAD_MAX_MS = 24 * HOUR_MS

export class HybridClock {
  #wallMs = 0
  #counter = 0

  /** The stamp of an event that happens now: greater than every stamp given or observed before. */
  stamp(wallMs: number): Hlc {
    assert(Number.isFinite(wallMs), 'wall time is a number')
    const now = Math.floor(wallMs)
    if (now > this.#wallMs) {
      this.#wallMs = now
      this.#counter = 0
    } else this.#counter++
    return { wallMs: this.#wallMs, counter: this.#counter }
  }

  /** Moves past a stamp that came with a message. False: it was too far ahead (or no stamp at all) and was not followed. */
  observe(stamp: Hlc, wallMs: number): boolean {
    if (!Number.isSafeInteger(stamp.wallMs) || !Number.isSafeInteger(stamp.counter) || stamp.counter < 0) return false
    if (stamp.wallMs > Math.floor(wallMs) + HLC_AHEAD_MAX_MS) return false
    if (compareHlc(stamp, { wallMs: this.#wallMs, counter: this.#counter }) > 0) {
      this.#wallMs = stamp.wallMs
      this.#counter = stamp.counter
    }
    return true
  }
}

/** Negative if `a` is earlier. Stamps of two processes may be equal: their names then decide. */
export function compareHlc(a: Hlc, b: Hlc): number {
  return a.wallMs - b.wallMs || a.counter - b.counter
}
