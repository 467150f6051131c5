// Each planted bug is found by the rule that is named for it, and the same seed without the bug is clean: of the first bug of
// each part always, of the others in the long tests. So the rules can see, and what they see is the bug. Called by the files that share the bugs out among workers.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { CANARIES, type Canary } from 'stellwerk/simulation/canaries.ts'
import { PLANTED_TUNING, runSeed, type SeedResult } from 'stellwerk/simulation/run-seed.ts'
import { afterEach, expect, test } from 'vitest'
import { CLEAN, complaint, LONG, TIMEOUT } from './support.ts'

/** From the pinned seed on, should the code have moved on since it was pinned; well below the 200 that are allowed. */
const SEEDS_MAX = 20

/** The first seed in which that rule is the first to see it: what another rule or an assertion finds does not count. */
async function find({ name, rule, seed, tuning }: Canary): Promise<SeedResult | null> {
  for (let i = 0; i < SEEDS_MAX; i++) {
    const result = await runSeed(String(seed + i), { canary: name, tuning })
    if (result.failure?.rule === rule) return result
  }
  return null
}

/** Makes a test for each planted bug of this part; the slow ones only in the long tests. */
export function finds(part: Canary['part']): void {
  afterEach(() => expect(canaries.size).toBe(0))

  for (const [index, canary] of CANARIES.filter(each => each.part === part && (LONG || each.slow !== true)).entries()) {
    const { name, rule, what, tuning } = canary
    test(`${rule} finds ${name}: ${what}`, TIMEOUT, async () => {
      const found = await find(canary)
      expect(found, `not found within ${SEEDS_MAX} seeds from ${canary.seed} on`).not.toBe(null)
      if (found === null) return
      expect(found.violations[0]?.rule, complaint(found, name)).toBe(rule)
      if (!LONG && index > 0) return
      // The same faults, up to the time at which the bug was found; then the cluster must heal as ever.
      const clean = await runSeed(found.seed, {
        tuning: { ...PLANTED_TUNING, ...tuning, safetyMs: found.simulatedMs },
      })
      expect(complaint(clean)).toBe(CLEAN)
    })
  }
}
