// What the simulation's tests share: a result in words that tell how to see it again.

import type { SeedResult } from 'stellwerk/simulation/run-seed.ts'

export const CLEAN = 'clean'

/** A seed takes a second or two; how long that is on a busy machine proves nothing. */
export const TIMEOUT = { timeout: 600_000 }

export function complaint({ seed, failure }: SeedResult, canary?: string): string {
  if (failure === null) return CLEAN
  const planted = canary === undefined ? '' : ` --canary ${canary}`
  return `${failure.rule}: ${failure.message}\nreplay it: npm run sim -- --seed ${seed}${planted}`
}
