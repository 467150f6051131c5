// Every plan of the library, whole, with a hundred seeds each in the simulator; more kinds of planted bugs; and a failure
// that is shrunk to a plan which fails again.

import { runSeedsOf, type SeedVerdict } from 'stellwerk/chaos/many-seeds.ts'
import { findPlan } from 'stellwerk/chaos/plan/library.ts'
import { parsePlan } from 'stellwerk/chaos/plan/parse-plan.ts'
import { failureKey, shrinkRun } from 'stellwerk/chaos/shrink-run.ts'
import { describe, expect, test } from 'vitest'
import { LIBRARY, libraryPlan, simulate } from './chaos-runs.ts'

const SEEDS = 100
const LONG = { timeout: 7_200_000 }

describe('a plan of the library holds with a hundred seeds', () => {
  for (const name of LIBRARY) {
    test(name, LONG, async () => {
      const results: SeedVerdict[] = []
      const seeds = Array.from({ length: SEEDS }, (_, i) => String(i + 1))
      await runSeedsOf(
        { plan: await findPlan(name, '.'), seeds },
        2,
        result => results.push(result),
        () => false,
      )
      expect(results).toHaveLength(SEEDS)
      expect(results.flatMap(({ seed, failures }) => failures.map(each => `seed ${seed}: ${each}`))).toEqual([])
    })
  }
})

describe('a planted bug makes a whole run fail by the rule that is named for it', () => {
  const planted = [
    ['run-before-commit', 'coordinator-storm', 'MIG1'],
    ['lease-unchecked', 'split-brain', 'FEN2'],
    ['synced-too-early', 'storage-loss', 'MIR1'],
    ['resync-wrong-direction', 'storage-loss', 'IO1'],
  ] as const
  for (const [canary, plan, rule] of planted) {
    test(`${rule} finds ${canary} in ${plan}`, LONG, async () => {
      const { verdict, violations } = await simulate(await libraryPlan(plan), '1', { canary })
      expect(verdict).toBe('fail')
      expect(violations.map(each => each.rule)).toContain(rule)
    })
  }
})

test('a failure is shrunk to fewer faults, and the plan that is written fails in the same way', LONG, async () => {
  const plan = await libraryPlan('storage-loss')
  const canary = 'resync-wrong-direction'
  const whole = await simulate(plan, '1', { canary })
  const key = failureKey(whole)
  expect(key).toMatchObject({ what: 'rule', name: 'IO1' })
  if (key === null) return
  const shrunk = await shrinkRun({ plan, seed: '1', key, canary, runsMax: 30 })
  expect(shrunk?.faults).toBeLessThan(whole.schedule.length)
  const small = parsePlan('shrunk.yaml', shrunk?.yaml ?? '')
  expect(small.random).toBe(null)
  expect(small.faults).toHaveLength(shrunk?.faults ?? 0)
  const again = await simulate(small, small.seed ?? '', { canary })
  expect(again.violations[0]?.rule).toBe('IO1')
  // Without the bug it is a plan that holds.
  expect((await simulate(small, small.seed ?? '')).verdict).toBe('pass')
})
