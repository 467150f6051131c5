// A trace is judged while it is written: what breaks a rule is told soon after it is there, and what only looks like it is not.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RULES, type Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { watchTrace } from './check-follow.ts'
import { openTrace } from './source.ts'
import { record, START_MS, snapshotWith, writeSegment } from './testing/segments.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-watch-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function at(ms: number, process: string, seq: number, kind: string, more: Partial<TraceRecord>): TraceRecord {
  return record(process, seq, { at: 1_000 + ms, hlc: { wallMs: START_MS + ms, counter: 0 }, kind, ...more })
}
const lease = at(0, 'coordinator', 1, 'lease.granted', {
  ...{ level: 'message', host: 'host-a', body: { epoch: 1, leaseMs: 3_000 } },
})
const failover = (seq: number) =>
  at(5_000, 'coordinator', seq, 'failover.start', {
    vm: 'web-1',
    body: { from: 'host-a', fromEpoch: 1, to: 'host-b', epoch: 2, attested: false, legs: ['san-a'], waitMs: 3_060 },
  })
const fence = at(4_000, 'san-a', 1, 'storage.fenced', {
  ...{ host: 'host-a', body: { storage: 'san-a', epoch: 1, term: 1 } },
})

/** Writes `later` once what was there is judged, and is over when `enough` says so. */
async function watch(later: () => void, enough: (found: readonly Violation[], looks: number) => boolean) {
  const unconfirmed: Violation[] = []
  const caughtUp: number[] = []
  let looks = 0
  const reopen = () => openTrace('/nowhere', [root])
  const report = await watchTrace(await reopen(), {
    rules: RULES,
    reopen,
    onCaughtUp: records => {
      caughtUp.push(records)
      later()
    },
    onUnconfirmed: finding => unconfirmed.push(finding),
    isOver: () => enough(unconfirmed, ++looks),
  })
  return { report, unconfirmed, caughtUp }
}

it('a rule that is broken while it is watched ends it, with what led there', async () => {
  writeSegment(root, 'coordinator', [snapshotWith(), lease])
  const { report, caughtUp } = await watch(
    () => writeSegment(root, 'coordinator', [failover(2)], { number: 2 }),
    (_, looks) => looks > 100,
  )
  expect(caughtUp).toEqual([1])
  expect(report.violations).toEqual([expect.objectContaining({ rule: 'FEN1' })])
  expect(report.violations[0]?.chain.length).toBeGreaterThan(0)
})

it('what a slow process writes late makes no violation, and the watching goes on', async () => {
  writeSegment(root, 'coordinator', [snapshotWith(), lease])
  const { report, unconfirmed } = await watch(
    () => {
      writeSegment(root, 'coordinator', [failover(2)], { number: 2 })
      // Of a process that is looked for every other second only.
      writeSegment(root, 'san-a', [fence])
    },
    (found, looks) => (found.length > 0 && looks > 12) || looks > 100,
  )
  expect(unconfirmed).toEqual([expect.objectContaining({ rule: 'FEN1' })])
  expect(report.violations).toEqual([])
  expect(report.rules.find(({ rule }) => rule === 'FEN1')).toMatchObject({ verdict: 'kept', records: 3 })
})
