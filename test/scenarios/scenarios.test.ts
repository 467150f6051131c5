// Recorded incidents, replayed: each directory here is one (made by `stellwerk trace to-scenario`), and the coordinator's core must
// decide in it as it did. Where it is to decide otherwise from now on, the incident is recorded anew.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CoordinatorReplay, type ReplayDifference } from '@stellwerk/coordinator/replay/replay.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { recordsOf } from 'stellwerk/trace/scenario.ts'
import { afterEach, expect, test } from 'vitest'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const NAMES = readdirSync(HERE, { withFileTypes: true }).flatMap(each => (each.isDirectory() ? [each.name] : []))

afterEach(() => canaries.clear())

function replayed(name: string): { replay: CoordinatorReplay; difference: ReplayDifference | null } {
  const text = (file: string) => readFileSync(join(HERE, name, file), 'utf8')
  const replay = new CoordinatorReplay()
  for (const record of recordsOf(text('inputs.ndjson'), text('expected.ndjson'))) {
    const difference = replay.take(record)
    if (difference !== null) return { replay, difference }
  }
  return { replay, difference: null }
}

test.each(NAMES)('%s', name => {
  const { replay, difference } = replayed(name)
  expect(difference).toBe(null)
  const lines = readFileSync(join(HERE, name, 'expected.ndjson'), 'utf8')
    .trimEnd()
    .split('\n')
  expect(replay.counts).toMatchObject({ decided: lines.length, skipped: 0 })
})

test('they would tell: a bug in the core shows in each of them', () => {
  expect(NAMES.length).toBeGreaterThanOrEqual(2)
  canaries.add('fence-missing-leg')
  for (const name of NAMES) expect(replayed(name).difference?.path).toMatch(/fence\/needed/)
})
