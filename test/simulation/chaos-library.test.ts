// The plans of the library hold in the simulator: here the first seconds of one seed of each, another for each commit, which
// is what a few seconds allow. Whole, with a hundred seeds: chaos-library.long.test.ts.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { sourceCommit } from '@stellwerk/runtime/node/source-commit.ts'
import { afterEach, describe, expect, test } from 'vitest'
import { LIBRARY, shortPlan, simulate, wordsOf } from './chaos-runs.ts'
import { TIMEOUT } from './support.ts'

afterEach(() => expect(canaries.size).toBe(0))

describe('a plan of the library holds', () => {
  const commit = sourceCommit()?.replace('+', '') ?? 'no-commit'
  for (const name of LIBRARY) {
    test(name, TIMEOUT, async () => {
      expect(wordsOf(await simulate(await shortPlan(name, 12_000), `${commit}-0`))).toBe('pass')
    })
  }
})

test('the same plan and seed are the same run, record by record; another seed is another', TIMEOUT, async () => {
  const short = await shortPlan('everything', 5_000)
  const plan = { ...short, convergeMs: 1_000, workload: { ...short.workload, vms: 1 } }
  const [first, again, other] = [await simulate(plan, '1'), await simulate(plan, '1'), await simulate(plan, '2')]
  expect(first.history.records).toBeGreaterThan(1_000)
  expect([again.verdict, again.traceHash, again.history.records]).toEqual([
    first.verdict,
    first.traceHash,
    first.history.records,
  ])
  expect(other.traceHash).not.toBe(first.traceHash)
})

describe('a planted bug is found, by the rule that is named for it', () => {
  const planted = [
    { canary: 'run-before-commit', plan: 'rolling-kill', rule: 'MIG1', ms: 5_000 },
    { canary: 'lease-unchecked', plan: 'split-brain', rule: 'FEN2', ms: 13_000 },
  ] as const
  for (const { canary, plan, rule, ms } of planted) {
    test(`${rule} finds ${canary} in ${plan}`, TIMEOUT, async () => {
      const short = { ...(await shortPlan(plan, ms)), convergeMs: 1_000 }
      const result = await simulate(short, '1', { canary })
      expect(result.verdict).toBe('fail')
      expect(result.violations.map(each => each.rule)).toContain(rule)
    })
  }
})

test('whoever has enough of it is left with a cluster that is whole, and no verdict', TIMEOUT, async () => {
  const plan = await shortPlan('rolling-kill', 15_000)
  let last = 0
  const result = await simulate(plan, '1', {
    stop: () => last > 4_000,
    onProgress: atMs => {
      last = atMs
    },
  })
  // It goes on until the next thing happens, here the end of the first fault; then it heals instead.
  expect(result).toMatchObject({ verdict: 'fail', interrupted: true, findings: ['the run was interrupted'] })
  expect(result.history.faults.every(({ to }) => to !== null)).toBe(true)
  expect(result.history.ended?.at).toBeLessThan(8_000)
})
