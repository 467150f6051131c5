import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import type { Fault } from '../fault.ts'
import { parsePlan } from '../plan/parse-plan.ts'
import { judge } from './judge.ts'

const PLAN = parsePlan(
  'p.yaml',
  'name: p\nsummary: s\nduration: 60s\ncluster: { hosts: 2 }\nfaults:\n  - { kind: coordinator-kill, at: 1s, for: 5s }\n  - { kind: coordinator-pause, at: 2s, for: 5s }\n',
)
const SCHEDULE: readonly Fault[] = [
  { id: 1, kind: 'coordinator-kill', atMs: 1_000, lastsMs: 5_000 },
  { id: 2, kind: 'coordinator-pause', atMs: 2_000, lastsMs: 5_000 },
]

async function* records(...kinds: readonly [string, object][]) {
  for (const [i, [kind, body]] of kinds.entries()) {
    const hlc = { wallMs: i, counter: 0 }
    const record = { kind, body, process: 'observer', seq: i, at: i, hlc, level: 'decision', vm: 'vm-1' }
    yield { record: record as unknown as TraceRecord, now: i }
  }
}
const begun = ({ id, kind }: Fault): [string, object] => ['fault.begun', { id, fault: kind }]
const idle = ({ id }: Fault): [string, object] => ['fault.idle', { id }]
const said: [string, object] = ['guest.acknowledged', { entry: 1 }]

const judged = (...kinds: readonly [string, object][]) =>
  judge({
    ...{ plan: PLAN, kind: 'local', vms: ['vm-1'], schedule: SCHEDULE, findings: [] },
    records: records(...kinds),
  })

test('a fault that did nothing is not counted among those that did something', async () => {
  const [kill, pause] = SCHEDULE
  const { lack, history } = await judged(begun(kill!), said, begun(pause!), idle(pause!))
  expect(lack).toBeNull()
  expect([history.faults.map(({ kind }) => kind), [...history.idle]]).toEqual([['coordinator-kill'], [2]])
})

test('a run all of whose faults did nothing proves nothing', async () => {
  const [kill, pause] = SCHEDULE
  const { lack, verdict } = await judged(begun(kill!), idle(kill!), said, begun(pause!), idle(pause!))
  expect([verdict, lack]).toEqual(['fail', expect.stringContaining('each fault found nothing to hit')])
})
