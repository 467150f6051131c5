import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { describe, expect, test } from 'vitest'
import { parsePlan } from '../plan/parse-plan.ts'
import type { Objective } from '../plan/plan.ts'
import { History } from './history.ts'
import { judge } from './judge.ts'
import { failoverSamples, judgeObjective, outageSamples, p99Of, pauseSamples } from './objectives.ts'

type Event = readonly [at: number, kind: string, body?: Json, ids?: Partial<TraceRecord>]

function record([at, kind, body = {}, ids = {}]: Event, seq: number): TraceRecord {
  return { hlc: { wallMs: at, counter: 0 }, at, process: 'p', seq, level: 'decision', kind, body, ...ids }
}

function historyOf(events: readonly Event[], vms = ['vm-1']): History {
  const history = new History(vms)
  for (const [i, event] of events.entries()) history.observe(record(event, i + 1), event[0])
  return history
}

const ack = (at: number, vm = 'vm-1', entry = 1): Event => [at, 'guest.acknowledged', { entry }, { vm, host: 'host-a' }]
const begun = (at: number, id: number, fault: string, host?: string): Event => [
  at,
  'fault.begun',
  { id, fault, ...(host === undefined ? {} : { host }) },
]
const ended = (at: number, id: number): Event => [at, 'fault.ended', { id }]
const lease: Event = [0, 'lease.granted', { leaseMs: 3_000, epoch: 1 }, { host: 'host-a' }]
const lost = (at: number, attested: boolean, vm = 'vm-1'): Event => [
  at,
  'failover.start',
  { from: 'host-a', to: 'host-b', attested },
  { vm },
]

describe('failover', () => {
  const objective: Objective = { name: 'failover', within: { leases: 1, ms: 2_000 }, disturbed: false }

  test('counts from the death of the host to the next entry; the lease is the cluster’s own', () => {
    const history = historyOf([
      ...[lease, ack(950), begun(1_000, 1, 'host-kill', 'host-a'), lost(4_200, false), ack(5_600)],
    ])
    expect(judgeObjective(objective, history)).toMatchObject({ value: 4_600, limit: 5_000, ok: true, samples: 1 })
    const late = historyOf([
      ...[lease, ack(950), begun(1_000, 1, 'host-kill', 'host-a'), lost(4_200, false), ack(6_001)],
    ])
    expect(judgeObjective(objective, late)).toMatchObject({ value: 5_001, ok: false })
  })

  test('of a host that went on unheard counts from what its guest acknowledged last', () => {
    const history = historyOf([
      ...[lease, begun(1_000, 1, 'host-isolate', 'host-a'), ack(3_000), lost(4_200, false), ack(4_500)],
    ])
    expect(failoverSamples(history, false)).toMatchObject([{ ms: 1_500, disturbed: false }])
  })

  test('a VM that never acknowledges again is down until the end', () => {
    const history = historyOf([
      ...([lease, ack(1), begun(1_000, 1, 'host-kill', 'host-a'), lost(2_000, false), [9_000, 'vm.run']] as Event[]),
    ])
    expect(failoverSamples(history, false)).toMatchObject([{ ms: 8_000 }])
  })

  test('attested ones are another objective’s, and another fault meanwhile excuses, unless the plan says no', () => {
    const events = [
      ...[lease, ack(950), begun(1_000, 1, 'agent-kill', 'host-a'), begun(1_500, 2, 'coordinator-kill')],
      ...[ended(8_000, 2), lost(8_500, true), ack(9_000)],
    ]
    const history = historyOf(events)
    expect(failoverSamples(history, false)).toEqual([])
    const attested: Objective = { name: 'failover-attested', within: { leases: 0, ms: 2_000 }, disturbed: false }
    expect(judgeObjective(attested, history)).toMatchObject({ value: null, ok: true, samples: 0, disturbed: 1 })
    expect(judgeObjective({ ...attested, disturbed: true }, history)).toMatchObject({ value: 8_000, ok: false })
  })

  test('of two deaths of one host each failover has its own', () => {
    const history = historyOf([
      ...[lease, ack(900), begun(1_000, 1, 'host-kill', 'host-a'), lost(2_000, false), ack(2_500), ended(3_000, 1)],
      ...[ack(9_900), begun(10_000, 2, 'host-kill', 'host-a'), lost(11_000, false), ack(13_000)],
    ])
    expect(failoverSamples(history, false).map(({ ms }) => ms)).toEqual([1_500, 3_000])
  })
})

describe('downtime', () => {
  const run = (at: number, instance: string, how: string): Event => [
    at,
    'vm.run',
    { instance, how, epoch: 1 },
    { vm: 'vm-1', host: 'host-b', migration: 'm' },
  ]
  const halt = (at: number, instance: string, how: string): Event => [
    at,
    'vm.halt',
    { instance, how, epoch: 1 },
    { vm: 'vm-1', host: 'host-a' },
  ]

  test('is from the release to the arrival, or to the resumption after an abort; a boot is none', () => {
    const history = historyOf([
      ...[run(0, 'a', 'start'), halt(1_000, 'a', 'released'), run(1_040, 'b', 'arrive')],
      ...[halt(2_000, 'b', 'released'), run(2_700, 'b', 'resume')],
      ...[halt(3_000, 'b', 'released'), lost(4_000, false), run(5_000, 'c', 'start')],
      ...[halt(6_000, 'c', 'killed'), run(7_000, 'd', 'start')],
    ])
    expect(pauseSamples(history).map(({ ms }) => ms)).toEqual([40, 700])
    const objective: Objective = { name: 'downtime-p99', within: { leases: 0, ms: 100 }, disturbed: false }
    expect(judgeObjective(objective, history)).toMatchObject({ value: 700, ok: false, samples: 2 })
  })

  test('the 99th percentile of two hundred leaves out two', () => {
    const sample = (ms: number) => ({ vm: 'v', from: 0, to: ms, ms, disturbed: false, what: '' })
    const samples = Array.from({ length: 200 }, (_, i) => sample(i < 197 ? 10 : 1_000 + i))
    expect(p99Of(samples)?.ms).toBe(1_197)
    expect(p99Of(samples.slice(0, 99))?.ms).toBe(10)
    expect(p99Of([])).toBe(null)
  })
})

test('an outage is the longest silence, also the one at the end; after the convergence VMs may stop', () => {
  const events = [ack(100), ack(1_500), ack(1_600), [5_000, 'faults.ended', { withinMs: 2_000, vms: [] }]] as Event[]
  expect(outageSamples(historyOf([...events, ack(5_100), ack(6_900), ack(60_000)]))).toMatchObject([
    { vm: 'vm-1', from: 1_600, to: 5_100, ms: 3_500 },
  ])
  expect(outageSamples(historyOf([...events, [60_000, 'vm.run']] as Event[]))).toMatchObject([
    { from: 1_600, to: 7_000, ms: 5_400 },
  ])
  expect(outageSamples(historyOf([ack(-5), [800, 'vm.run']] as Event[]))).toMatchObject([{ from: 0, to: 800 }])
})

describe('the verdict', () => {
  const plan = parsePlan('p', 'name: p\nsummary: s\nduration: 10s\nfaults: [{ at: 1s, kind: coordinator-kill }]\n')
  const verdict = async (events: readonly Event[], findings: readonly string[] = [], of = plan, cutShort = false) =>
    judge({
      ...{ plan: of, kind: 'local', vms: ['vm-1'], findings, cutShort },
      schedule: [{ id: 1, kind: 'coordinator-kill', atMs: 1_000, lastsMs: 100 }],
      records: (async function* () {
        for (const [i, event] of events.entries()) yield { record: record(event, i + 1), now: event[0] }
      })(),
    })
  const good = [ack(10, 'vm-1', 1), begun(1_000, 1, 'coordinator-kill'), ended(1_100, 1), ack(2_000, 'vm-1', 2)]

  test('is a pass where rules and objectives hold and something happened', async () => {
    expect(await verdict(good)).toMatchObject({ verdict: 'pass', lack: null, violations: [] })
  })

  test('is none where nothing was broken, or nothing was written, or less was broken than planned', async () => {
    expect(await verdict([ack(10)])).toMatchObject({ verdict: 'fail', lack: 'nothing was broken: no fault ever began' })
    expect(await verdict([])).toMatchObject({ verdict: 'fail' })
    expect(await verdict([begun(1_000, 1, 'coordinator-kill')])).toMatchObject({
      verdict: 'fail',
      lack: 'vm-1 never acknowledged an entry',
    })
  })

  test('is none where a rule that was asked for by name was judged by nothing', async () => {
    const of = { ...plan, rules: ['MIG1' as const] }
    expect(await verdict(good, [], of)).toMatchObject({ lack: 'MIG1 was judged by no record at all' })
  })

  test('is none where nothing was measured for an objective, but for a run that was cut short', async () => {
    const of = {
      ...plan,
      objectives: [{ name: 'failover', within: { leases: 1, ms: 2_000 }, disturbed: false }],
    } as const
    const lack = 'nothing was measured for the objective failover'
    expect(await verdict(good, [], of)).toMatchObject({ verdict: 'fail', lack })
    expect(await verdict(good, [], of, true)).toMatchObject({ verdict: 'pass', lack: null })
    const others = [...good, lease, begun(2_100, 2, 'host-kill', 'host-a'), begun(2_200, 3, 'coordinator-kill')]
    const epochs = { fromEpoch: 1, epoch: 2, legs: [], waitMs: 3_060 }
    const told = { from: 'host-a', to: 'host-b', attested: false, ...epochs }
    const failover: Event = [5_000, 'failover.start', told, { vm: 'vm-1' }]
    expect(await verdict([...others, failover, ack(5_600, 'vm-1', 3)], [], of)).toMatchObject({
      lack: `${lack}: each of 1 was under other faults`,
    })
  })

  test('names the rule that is broken, and takes what the target found', async () => {
    const twice = await verdict([...good, ack(2_100, 'vm-1', 2)])
    expect(twice.verdict).toBe('fail')
    expect(twice.violations.map(({ rule }) => rule)).toEqual(['VM2'])
    expect(await verdict(good, ['a leg differs'])).toMatchObject({ verdict: 'fail', findings: ['a leg differs'] })
  })
})
