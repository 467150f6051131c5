// The same seed gives the same run: twice in one process, in a thread, and in a process of its own.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runSeed } from 'stellwerk/simulation/run-seed.ts'
import type { SimReport } from 'stellwerk/simulation/summary.ts'
import { expect, test } from 'vitest'
import { TIMEOUT } from './support.ts'

/** With few events, as seeds go: so are 43 and 44. */
const SEED = '58'
const SAFETY_S = 5
/** All phases of a run, and faults enough to differ by. */
const MEDIUM_S = 40
const MEDIUM = { tuning: { safetyMs: MEDIUM_S * 1_000 } }
const SHORT = { tuning: { safetyMs: SAFETY_S * 1_000 } }
const FEW = ['--seeds', '3', '--first', '43', '--safety', String(SAFETY_S)]
const root = fileURLToPath(new URL('../..', import.meta.url))
/** As a user would start it: plain node, without what the test runner does to sources. */
const node = `${root}node_modules/.bin/node`
const main = `${root}packages/cli/src/simulation/main.ts`
const run = promisify(execFile)

async function inProcess(...args: string[]): Promise<SimReport> {
  const { stdout } = await run(node, [main, '--json', ...args], { cwd: root })
  return JSON.parse(stdout) as SimReport
}

test('the same seed twice gives the same trace, another seed another', TIMEOUT, async () => {
  const first = await runSeed(SEED, MEDIUM)
  expect(first.failure).toBe(null)
  expect(first.traceHash).toMatch(/^[0-9a-f]{16}$/)
  expect((await inProcess('--seed', SEED, '--safety', String(MEDIUM_S))).traceHash).toBe(first.traceHash)
  const [once, again] = [await runSeed(SEED, SHORT), await runSeed(SEED, SHORT)]
  expect({ ...again, violations: [] }).toEqual({ ...once, violations: [] })
  expect((await runSeed('43', SHORT)).traceHash).not.toBe(once.traceHash)
})

test('two threads give what one gives', TIMEOUT, async () => {
  const one = await inProcess(...FEW)
  const two = await inProcess(...FEW, '--jobs', '2')
  expect({ ...two, realMs: 0, commit: null }).toEqual({ ...one, realMs: 0, commit: null })
  expect(one.seeds).toBe(3)
  // What scripts rely on.
  expect(Object.keys(one)).toEqual(
    expect.arrayContaining(
      'seeds failed simulatedMs realMs events faults migrations failovers acknowledgedWrites traceHash'.split(' '),
    ),
  )
})
