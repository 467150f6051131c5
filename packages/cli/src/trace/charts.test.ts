// Charts of a recorded run (seed 7 of the simulator, cut to what the charts are of), as they look in a terminal, in Mermaid and
// to programs. `npx vitest -u` writes the pictures anew.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Chart } from './chart.ts'
import { migrationsIn, outagesIn } from './chart-incidents.ts'
import { mermaid } from './chart-mermaid.ts'
import { migrationChart } from './chart-migration.ts'
import { outageChart } from './chart-outage.ts'
import { chartText } from './chart-text.ts'
import { openTrace, type TraceSource } from './source.ts'
import { writeSegment } from './testing/segments.ts'

const GOLDEN = new URL('./testing/golden/', import.meta.url)
const MIGRATION = 'OSk1Zk0qRlCJ'

let root = ''
let source: TraceSource
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-charts-'))
  const lines = readFileSync(new URL('seed-7.ndjson', GOLDEN), 'utf8').trim().split('\n')
  const records = lines.map(line => JSON.parse(line) as TraceRecord)
  for (const [process, own] of Map.groupBy(records, record => record.process)) writeSegment(root, process, own)
  source = await openTrace('', [root])
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

const golden = (name: string) => new URL(name, GOLDEN).pathname
const page = (lines: readonly string[]) => `${lines.join('\n')}\n`

describe('a migration that was held up in its switch-over', () => {
  let chart: Chart
  beforeAll(async () => {
    chart = await migrationChart(source, MIGRATION, {})
  })

  test('in the terminal', () => expect(page(chartText(chart))).toMatchFileSnapshot(golden('migration.txt')))
  test('in Mermaid', () => expect(page(mermaid(chart))).toMatchFileSnapshot(golden('migration.mmd')))

  test('has its phases one after the other, each with its budget from the coordinator’s settings', () => {
    const [preparing, precopy, switching, finishing, downtime] = chart.phases
    expect(chart.phases.map(phase => phase.budgetMs)).toEqual([10_000, 120_000, 10_000, null, 50])
    expect([preparing?.toMs, precopy?.toMs, switching?.toMs]).toEqual([
      ...[precopy?.fromMs, switching?.fromMs, finishing?.fromMs],
    ])
    expect(downtime).toMatchObject({ name: 'downtime' })
    expect(chart.outcome).toBe('committed and done')
  })

  test('has messages only between those that took part, replies with what they answer', () => {
    expect(chart.participants).toEqual(['coordinator', 'host-d', 'host-b'])
    const messages = chart.steps.filter(step => step.kind === 'message')
    for (const reply of messages.filter(step => step.isReply)) {
      const asked = messages.some(
        step => !step.isReply && step.what === reply.what && step.to === reply.from && step.atMs <= reply.atMs,
      )
      expect(asked, `${reply.what} of ${reply.from}`).toBe(true)
    }
    expect(messages.filter(step => step.what === 'migration.switch').map(step => step.from)).toEqual([
      ...['coordinator', 'host-d'],
    ])
  })
})

test('the death of an agent, which its guardian attests', async () => {
  const chart = await outageChart(source, 'host-c@1', {})
  await expect(page(chartText(chart))).toMatchFileSnapshot(golden('agent-dead.txt'))
  await expect(page(mermaid(chart))).toMatchFileSnapshot(golden('agent-dead.mmd'))
  expect(chart.phases.map(({ name }) => name)).toEqual(['noticing', 'fencing', 'starting', 'in all'])
  addUp(chart)
})

test('a host that falls silent: one of its VMs, by the time that its leases take', async () => {
  const chart = await outageChart(source, 'vm-3@7', {})
  await expect(page(chartText(chart))).toMatchFileSnapshot(golden('silent-host.txt'))
  expect(chart.phases.find(({ name }) => name === 'waiting for leases')?.budgetMs).toBe(3_120)
  expect(chart.title).toBe('failover of vm-3 from host-a (epoch 1) to host-b')
  addUp(chart)
})

/** One phase begins where the one before it ends. */
function addUp({ phases }: Chart): void {
  const parts = phases.filter(({ isWhole }) => isWhole !== true)
  const [whole] = phases.filter(({ isWhole }) => isWhole === true)
  expect([whole?.fromMs, ...parts.map(({ toMs }) => toMs)]).toEqual([...parts.map(({ fromMs }) => fromMs), whole?.toMs])
}

test('what there is can be listed, and what there is not is named with what there is', async () => {
  const migrations = await migrationsIn(source, {})
  expect(migrations.find(({ id }) => id === MIGRATION)).toMatchObject({
    vm: 'vm-2',
    source: 'host-d',
    target: 'host-b',
  })
  const outages = await outagesIn(source, {})
  expect(outages.map(({ id }) => id)).toEqual(['host-c@1', 'host-a@1', 'host-c@2.1'])
  await expect(migrationChart(source, 'nope', {})).rejects.toMatchObject({
    code: 'unknown-migration',
    hint: expect.stringContaining(MIGRATION),
  })
  await expect(outageChart(source, 'host-b@1', {})).rejects.toMatchObject({
    code: 'unknown-outage',
    hint: expect.stringContaining('host-c@1'),
  })
})

test('a narrow terminal gets lines that fit', async () => {
  const chart = await migrationChart(source, MIGRATION, {})
  const wide = Math.max(...chartText(chart).map(line => line.length))
  const steps = chartText(chart, 90).filter(line => line.includes('│'))
  expect(wide).toBeGreaterThan(90)
  expect(Math.max(...steps.map(line => line.length))).toBeLessThanOrEqual(90)
})
