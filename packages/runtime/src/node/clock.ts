// The real clock: monotonic milliseconds since the machine's start, which all of its processes read alike (a guardian judges
// by its own clock what its agent dated by its), and which also count the time the machine was suspended.
// process.hrtime does not count suspend, /proc/uptime does, but costs a file read and ticks in 10 ms. So the fast clock is
// read always, and the slow one only when there is a sign of a suspend.

import { uptime } from 'node:os'
import type { Clock } from '../environment.ts'

/** The slow clock is read at least this often (on the fast clock), whatever the signs say. */
const CHECK_INTERVAL_MS = 1000
/** A wall clock that moved this much against the fast clock is a sign of a suspend (or of the operator setting it). */
const WALL_JUMP_MS = 20
/** Less than this is the slow clock's coarse tick and the time between the two readings, not a suspend. */
const SUSPEND_MIN_MS = 50

/** The three clocks of an operating system, all in milliseconds. */
export interface ClockSources {
  /** Never goes back, stands still during suspend, cheap; of the same origin in every process of the machine. */
  monotonicMs(): number
  /** Jumps when it is set; goes on during suspend, cheap. */
  wallMs(): number
  /** Never goes back, goes on during suspend, coarse and costly. */
  uptimeMs(): number
}

/** `performance.now()` counts from the start of each process or thread, on the clock that hrtime shows from its origin. */
const ORIGIN_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now()

export const SYSTEM_CLOCKS: ClockSources = {
  monotonicMs: () => performance.now() + ORIGIN_MS,
  wallMs: () => Date.now(),
  uptimeMs: () => uptime() * 1000,
}

export function createClock(sources: ClockSources = SYSTEM_CLOCKS): Clock {
  const start = sources.monotonicMs()
  const lagAtStart = sources.uptimeMs() - start
  // Suspended before this process began: the others have counted it. In a container that shows its own, younger uptime the
  // lag is negative and says nothing.
  let suspendedMs = lagAtStart > SUSPEND_MIN_MS ? lagAtStart : 0
  const base = lagAtStart - suspendedMs
  let checkedAt = start
  let wallOffset = sources.wallMs() - start

  return {
    now() {
      const monotonic = sources.monotonicMs()
      const offset = sources.wallMs() - monotonic
      if (Math.abs(offset - wallOffset) > WALL_JUMP_MS || monotonic - checkedAt > CHECK_INTERVAL_MS) {
        checkedAt = monotonic
        wallOffset = offset
        // Read the fast clock again: this thread may have been off the processor in between.
        const lag = sources.uptimeMs() - sources.monotonicMs() - base
        if (lag - suspendedMs > SUSPEND_MIN_MS) suspendedMs = lag
      }
      return monotonic + suspendedMs
    },
    wall: () => sources.wallMs(),
  }
}
