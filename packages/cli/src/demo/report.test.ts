// The demo's verdict: it holds only when nothing at all speaks against it.

import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import { type FailoverFigures, failoverFigures, type MigrationFigures, migrationFigures } from './figures.ts'
import { type DemoReport, failuresOf, median, reportLines } from './report.ts'

const MIGRATION: MigrationFigures = {
  ...{
    vm: 'web',
    from: 'host-a',
    to: 'host-b',
    totalMs: 300,
    downtimeMs: 40,
    rounds: 3,
    pagesSent: 10,
    bytesSent: 4_096,
  },
  pause: null,
  attempts: 1,
}
const FAILOVER: FailoverFigures = {
  ...{ host: 'host-a', vm: 'web', to: 'host-b', attested: true },
  ...{ detectMs: 50, fenceMs: 10, waitMs: 140, placeMs: 10, startMs: 90, totalMs: 300 },
}
const GOOD: DemoReport = {
  migrations: [MIGRATION, MIGRATION, MIGRATION],
  failovers: [FAILOVER, { ...FAILOVER, attested: false }],
  ledgers: [{ vm: 'web', entries: 5, lost: 0, duplicated: 0, heard: 5, boots: 1, damages: [] }],
  violations: [],
  findings: [],
  survivors: [],
  judged: { VM1: 3 },
  leaseMs: 3_000,
  machine: { processors: 2, loadAverage: 0.5 },
}
const violation: Violation = { rule: 'VM1', message: 'two at once', at: 1, records: [] }

test('it held when nothing speaks against it', () => {
  expect(failuresOf(GOOD)).toEqual([])
  expect(reportLines(GOOD).at(-1)).toMatch(/^It held/)
})

test.each<[string, Partial<DemoReport>, RegExp]>([
  ['a rule was broken', { violations: [violation] }, /VM1: two at once/],
  ['an entry was lost', { ledgers: [{ ...GOOD.ledgers[0]!, lost: 2 }] }, /2 acknowledged entries are not/],
  ['an entry came twice', { ledgers: [{ ...GOOD.ledgers[0]!, duplicated: 1 }] }, /came twice/],
  [
    'a guest found damage',
    { ledgers: [{ ...GOOD.ledgers[0]!, damages: ['memory damaged page 1'] }] },
    /web says: memory/,
  ],
  ['the volume is damaged', { findings: ['extent-leaked at x: y'] }, /volume: extent-leaked/],
  ['a process was left', { survivors: ['host-a/agent (7)'] }, /host-a\/agent \(7\) outlived/],
  ['a migration was not made', { migrations: [MIGRATION, MIGRATION] }, /2 migrations were made, not 3/],
  ['no agent’s death was attested', { failovers: GOOD.failovers.slice(1) }, /no failover after a death that was att/],
  ['no host was lost whole', { failovers: [FAILOVER] }, /no failover after a death that nobody attested/],
  ['nothing failed over', { failovers: [] }, /attested\n.*nobody attested/],
  ['a rule was judged by nothing', { judged: { VM1: 3, FEN1: 0 } }, /FEN1 was judged by nothing/],
])('it did not hold: %s', (_what, change, says) => {
  const report = { ...GOOD, ...change }
  expect(failuresOf(report).join('\n')).toMatch(says)
  expect(reportLines(report).join('\n')).not.toMatch(/It held/)
})

test('the median of an even and an odd count', () => {
  expect([median([]), median([3]), median([9, 1, 5]), median([4, 1, 2, 9])]).toEqual([0, 3, 5, 3])
})

let seq = 0
function record(at: number, kind: string, rest: Partial<TraceRecord> = {}): TraceRecord {
  seq += 1
  return { hlc: { wallMs: at, counter: 0 }, at, process: 'coordinator', seq, level: 'decision', kind, ...rest }
}

test('a failover’s phases add up from the kill to the first entry heard elsewhere', () => {
  const records = [
    record(150, 'decision.fence', { body: { subject: 'host-a' } }),
    record(160, 'decision.fenced', { body: { subject: 'host-a' } }),
    record(300, 'decision.vm-lost', { body: { subject: 'web' } }),
    record(310, 'failover.start', { vm: 'web', body: { attested: false } }),
  ]
  const figures = failoverFigures('host-a', 'web', 100, { entry: 9, host: 'host-b', at: 400 }, records)
  const { detectMs, fenceMs, waitMs, placeMs, startMs, totalMs } = figures
  expect([detectMs, fenceMs, waitMs, placeMs, startMs, totalMs]).toEqual([50, 10, 140, 10, 90, 300])
  expect(() => failoverFigures('host-a', 'db', 100, { entry: 9, host: 'host-b', at: 400 }, records)).toThrow(
    'vm-lost of db',
  )
})

test('a migration’s pause is what was heard, and its parts add up to it', () => {
  const handover = { from: { entry: 7, host: 'host-a', at: 500 }, to: { entry: 8, host: 'host-b', at: 540 } }
  const records = [
    record(505, 'vm.halt', { body: { how: 'released' } }),
    record(515, 'machine.released', { body: {} }),
    record(520, 'machine.loaded', { body: {} }),
    record(524, 'migration.committed', { body: {} }),
    record(526, 'vm.run', { body: { how: 'arrive' } }),
  ]
  const statistics = { rounds: 3, pagesSent: 10, bytesSent: 40_960 }
  const figures = migrationFigures('web', 200, handover, statistics, records)
  expect(figures).toMatchObject({ from: 'host-a', to: 'host-b', totalMs: 340, downtimeMs: 40, rounds: 3 })
  expect(Object.values(figures.pause ?? {}).reduce((sum, part) => sum + part, 0)).toBe(40)
  expect(migrationFigures('web', 200, handover, statistics, records.slice(1)).pause).toBe(null)
})
