// The simulated cluster keeps all rules: in the seeds that once found something, and in a fresh one, another for each
// commit. The search proper is `npm run sim -- --seeds 1000`.

import { sourceCommit } from '@stellwerk/runtime/node/source-commit.ts'
import { REGRESSIONS } from 'stellwerk/simulation/regressions.ts'
import { runSeed } from 'stellwerk/simulation/run-seed.ts'
import { describe, expect, test } from 'vitest'
import { CLEAN, complaint, LONG, TIMEOUT } from './support.ts'

describe('what once failed is clean', () => {
  for (const { seed, rule, because, tuning, again } of REGRESSIONS) {
    if (again && !LONG) continue
    test(`seed ${seed}, found by ${rule}: ${because}`, TIMEOUT, async () => {
      expect(complaint(await runSeed(seed, { tuning }))).toBe(CLEAN)
    })
  }
})

test('a fresh seed is clean', TIMEOUT, async () => {
  const seed = sourceCommit()?.replace('+', '') ?? 'no-commit'
  expect(`${seed}: ${complaint(await runSeed(seed))}`).toBe(`${seed}: ${CLEAN}`)
})
