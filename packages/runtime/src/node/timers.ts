// The real timers. They keep to the environment's clock, which counts suspend, while the event loop's timers do not: so a
// long delay is slept in short pieces, and what came due during a suspend runs soon after waking.

import { assert } from '../assert.ts'
import type { Clock, Timer, Timers } from '../environment.ts'

/** The longest single sleep: how late, after a suspend, an overdue timer may be. */
export const SLEEP_MAX_MS = 500

export function createTimers(clock: Clock): Timers {
  return {
    after(delayMs: number, f: () => void): Timer {
      assert(delayMs >= 0, 'a delay is not negative')
      const dueAt = clock.now() + delayMs
      // The event loop rounds delays down and counts from when it last looked at its clock: so the time is checked when a
      // sleep ends, and a timer never runs early.
      // It may have come due since it was last looked at.
      const sleep = () => setTimeout(wake, Math.min(Math.max(0, Math.ceil(dueAt - clock.now())), SLEEP_MAX_MS))
      const wake = () => {
        if (clock.now() >= dueAt) f()
        else handle = sleep()
      }
      let handle = sleep()
      return { cancel: () => clearTimeout(handle) }
    },
  }
}
