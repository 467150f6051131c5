// Orders and questions are asked again until they are answered or not needed any more; at most one of a key at a time.

import type { CoordinatorState } from './state.ts'

/** True, once per `retryMs`, when the order of this key should be sent (again). */
export function shouldAsk(state: CoordinatorState, key: string, now: number, retryMs: number): boolean {
  const outstanding = state.outstanding.get(key)
  if (outstanding !== undefined && now < outstanding.retryAt) return false
  state.outstanding.set(key, { retryAt: now + retryMs })
  return true
}

/** The answer came; `againAt` is when the next attempt may go out (now, if it went well). */
export function answered(state: CoordinatorState, key: string, againAt: number | null): void {
  if (againAt === null) state.outstanding.delete(key)
  else state.outstanding.set(key, { retryAt: againAt })
}

/** Drops what was asked long ago and never answered, so that the map stays bounded by what is under way. */
export function forgetOldQuestions(state: CoordinatorState, now: number, olderThanMs: number): void {
  for (const [key, outstanding] of state.outstanding) {
    if (outstanding.retryAt + olderThanMs < now) state.outstanding.delete(key)
  }
}
