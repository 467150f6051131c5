// A run written down: the same bytes for the same seed, all that was on record, and no run disturbed by it.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RULES } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { outagesIn } from '../trace/chart-incidents.ts'
import { outageChart } from '../trace/chart-outage.ts'
import { checkTrace } from '../trace/check.ts'
import { replayTrace } from '../trace/replay.ts'
import { openTrace } from '../trace/source.ts'
import { SimRecorder } from './recorder.ts'
import { runSeed, type SeedResult } from './run-seed.ts'

/** Two VMs lose their host in it. */
const SEED = '4'
const SHORT = { safetyMs: 4_000, faults: ['agent-kill', 'host-crash'], guestNetwork: false, drains: false }

let root = ''
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-recorder-'))
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

function contents(directory: string): Map<string, Buffer> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.trace'))
  return new Map(names.sort().map(name => [name, readFileSync(join(directory, name))]))
}

async function recorded(directory: string, records: TraceRecord[]): Promise<SeedResult> {
  const recorder = new SimRecorder(directory, SEED)
  const result = await runSeed(SEED, { tuning: SHORT, recorder, onRecord: record => records.push(record) })
  recorder.close()
  return result
}

test('one seed gives the same bytes twice, and they hold all that was on record', async () => {
  const records: TraceRecord[] = []
  const result = await recorded(join(root, 'a'), records)
  const again = await recorded(join(root, 'b'), [])
  expect(again.traceHash).toBe(result.traceHash)
  expect(contents(join(root, 'b'))).toEqual(contents(join(root, 'a')))
  const source = await openTrace('/nowhere', [join(root, 'a')])
  expect(source.cluster).toBe(`sim-${SEED}`)
  const read = await Array.fromAsync(source.records())
  const own = read.filter(record => record.seq !== 0).map(({ order, ...rest }) => rest)
  expect(own.length).toBe(records.length)
  const orders = read.map(record => record.order).sort((a, b) => (a ?? 0) - (b ?? 0))
  expect(orders).toEqual(orders.map((_, i) => i + 1))
  const byProcess = (all: readonly TraceRecord[]) => Map.groupBy(all, record => record.process)
  const expected = byProcess(records)
  for (const [process, those] of byProcess(own)) expect(those).toEqual(expected.get(process))
  const cores = new Set(read.filter(record => record.seq === 0).map(record => record.kind))
  expect([...cores].sort()).toEqual([
    ...['core.input', 'core.output', 'core.snapshot'],
    ...['trace.ended', 'trace.facts'],
  ])
  // What the run counted is found in its trace, and can be drawn.
  const outages = await outagesIn(source, {})
  const failovers = outages.flatMap(outage => outage.failovers)
  expect(failovers.length).toBe(result.failovers)
  for (const { id, vm } of failovers) {
    const chart = await outageChart(source, id, {})
    expect(chart.phases.map(({ toMs }) => toMs)).not.toContain(null)
    const run = chart.steps.filter(step => step.kind === 'event' && step.what.startsWith(`vm.run ${vm} `))
    expect(run.length).toBeGreaterThan(0)
  }
})

test('what is written down keeps the rules, and the coordinator’s core decides it all again', async () => {
  const source = await openTrace('/nowhere', [join(root, 'a')])
  const { violations, rules, seed } = await checkTrace(source, { rules: RULES })
  expect([seed, violations]).toEqual([SEED, []])
  const kept = rules.filter(({ verdict }) => verdict === 'kept').map(({ rule }) => rule)
  expect(kept).toEqual(expect.arrayContaining(['VM1', 'VM2', 'CSV1', 'CSV2', 'IO1', 'IO2', 'IO3', 'FEN2', 'LIV1']))
  const { counts, difference } = await replayTrace(source)
  expect(difference).toBe(null)
  expect(counts).toMatchObject({ skipped: 0 })
  expect(counts.decided).toBeGreaterThan(100)
})

test('with a process’s trace away it convicts nobody, whoever that is', async () => {
  const whole = await openTrace('/nowhere', [join(root, 'a')])
  const away = ['coordinator', 'host-a/agent', 'host-b/agent', 'san-a', 'simulator']
  expect(whole.names).toEqual(expect.arrayContaining(away))
  for (const process of away) {
    const part = join(root, 'part')
    cpSync(join(root, 'a'), part, { recursive: true })
    rmSync(join(part, process), { recursive: true })
    const report = await checkTrace(await openTrace('/nowhere', [part]), { rules: RULES })
    expect(report).toMatchObject({ violations: [], missing: [`the trace of ${process} is not here`] })
    rmSync(part, { recursive: true })
  }
})

test('a directory that has something in it is refused, and what cannot be written is said at the end', () => {
  const full = join(root, 'full')
  const recorder = new SimRecorder(full, '1')
  writeFileSync(full, 'a file is in the way')
  const hlc = { wallMs: 1, counter: 0 }
  recorder.record({ hlc, at: 1, process: 'san-a', seq: 1, level: 'decision', kind: 'x' })
  expect(() => recorder.close()).toThrow(expect.objectContaining({ code: 'trace-not-written', where: full }))
  expect(() => new SimRecorder(root, '1')).toThrow(expect.objectContaining({ code: 'not-empty', where: root }))
})
