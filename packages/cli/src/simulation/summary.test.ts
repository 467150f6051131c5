// Sums over seeds do not depend on the order in which results come; what was never met fails a large run only.

import { expect, test } from 'vitest'
import { COUNTED } from './faults.ts'
import { MIGRATION_PHASES } from './plan.ts'
import type { SeedResult } from './run-seed.ts'
import { COVERING_SEEDS, coverageTable, isFailure, type SimReport, Summary } from './summary.ts'

function result(seed: string, more: Partial<SeedResult> = {}): SeedResult {
  return {
    seed,
    failure: null,
    violations: [],
    simulatedMs: 150_000,
    events: 10,
    faults: { 'agent-kill': 2 },
    coverage: { 'agent-kill': { precopy: 1 } },
    migrations: 6,
    migrationsAdmitted: 8,
    failovers: 1,
    acknowledgedWrites: 100,
    disks: { snapshots: 1, clones: 1, copies: 1, full: 0 },
    legs: { taken: 1, given: 2, regretted: 0 },
    traceHash: `hash of ${seed}`,
    ...more,
  }
}

function reportOf(results: readonly SeedResult[], seeds: readonly string[]): SimReport {
  const summary = new Summary()
  for (const each of results) summary.add(each)
  return summary.report(seeds, 1_000, null)
}

test('adds up, in any order', () => {
  const failed = result('2', { failure: { rule: 'VM1', message: 'two run' } })
  const report = reportOf([failed, result('1')], ['1', '2'])
  expect(report).toEqual(reportOf([result('1'), failed], ['1', '2']))
  expect(report).toMatchObject({
    seeds: 2,
    failed: [{ seed: '2', rule: 'VM1', message: 'two run' }],
    simulatedMs: 300_000,
    events: 20,
    migrations: 12,
    failovers: 2,
    acknowledgedWrites: 200,
    legs: { taken: 2, given: 4, regretted: 0 },
  })
  expect(report.faults['agent-kill']).toBe(4)
  expect(report.coverage['agent-kill']).toEqual({ preparing: 0, precopy: 2, switching: 0, committed: 0 })
  expect(isFailure(report)).toBe(true)
})

test('one seed keeps its own hash, others give another', () => {
  expect(reportOf([result('1')], ['1']).traceHash).toBe('hash of 1')
  const both = reportOf([result('1'), result('2')], ['1', '2']).traceHash
  expect(both).not.toBe(reportOf([result('1'), result('3')], ['1', '3']).traceHash)
})

test('an empty cell fails a run that is large enough to have met everything', () => {
  const report = reportOf([result('1')], ['1'])
  expect(report.emptyCells).toHaveLength(COUNTED.length * MIGRATION_PHASES.length - 1)
  expect(report.emptyCells).not.toContain('agent-kill × precopy')
  expect(isFailure(report)).toBe(false)
  expect(isFailure({ ...report, seeds: COVERING_SEEDS })).toBe(true)
  expect(isFailure({ ...report, seeds: COVERING_SEEDS, emptyCells: [] })).toBe(false)
})

test('the table has a line a fault', () => expect(coverageTable(reportOf([], []))).toHaveLength(COUNTED.length + 1))
