import type { AccessReport } from '@stellwerk/protocol/messages/cluster.ts'
import { describe, expect, it } from 'vitest'
import { whyOf } from '../view/why.ts'
import type { MigrationRecord } from './migration-record.ts'
import { Bench } from './testing.ts'

const access = (state: AccessReport['state'], storage = 'san-a', volume = 'csv1'): AccessReport => ({
  ...{ volume, storage, state, via: null, why: 'no path is up, and no peer has one', sinceMs: 60_000 },
})

/** A VM whose host has its volume open, with a way to it or without; so have the others. */
function cluster(): { bench: Bench; from: string; others: string[] } {
  const bench = Bench.cluster()
  const from = bench.placement('web')!.host
  for (const host of bench.hosts.values()) host.access = [access('direct')]
  return { bench, from, others: [...bench.hosts.keys()].filter(name => name !== from) }
}

function create(bench: Bench, name: string, host: string, volume = 'csv2', memoryBytes = 2 ** 26): void {
  bench.command({
    ...{ kind: 'vm-create', name, start: true, priority: 0, host },
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes, parameters: {} },
    disks: [{ volume, sizeBytes: 2 ** 20 }],
  })
  bench.round(4)
  expect(bench.placement(name)).toMatchObject({ host, phase: 'running' })
}

const WELL = access('direct', 'san-b', 'csv2')

/** Besides a VM that waits for its volume's storage there is a volume that everybody reaches. */
function withAnother() {
  const { bench, from, others } = cluster()
  bench.command({ kind: 'volume-create', name: 'csv2', id: 'v2', sizeBytes: 2 ** 30, storages: ['san-b'] })
  bench.round(2)
  for (const name of others) bench.hosts.get(name)!.access = [access('direct'), WELL]
  return { bench, from, others: [others[0]!, others[1]!] as const }
}

/** It has no way to the storage of the first volume, as far as it can be from one. */
const strand = (bench: Bench, host: string) =>
  Object.assign(bench.hosts.get(host)!, { access: [access('paused'), WELL], storages: ['san-b'] })

const why = (bench: Bench, host: string) => whyOf(bench.state, 'host', host, [], bench.now)?.now.join(' ') ?? ''
const decided = (bench: Bench, kind: string) => bench.traces.filter(event => event.kind === `decision.${kind}`)

/** It converges, is loaded, and runs at its target. */
function arrive(bench: Bench, { id, vm, source, target, epoch }: MigrationRecord): void {
  bench.input({ kind: 'migration-progress', migration: id, converged: true })
  const message = { migration: id, vm, host: target.host, incarnation: target.incarnation, epoch }
  bench.ask(request => ({ kind: 'migration-loaded', request, message }))
  for (const { host, incarnation } of [source, target]) {
    const done = { migration: id, vm, host, incarnation, statistics: {} }
    bench.ask(request => ({ kind: 'migration-done', request, message: done }))
  }
}

const ROUNDS_A_SECOND = 2

describe('a host without a way to its VMs’ storage', () => {
  it('is fenced after isolatedMs, and its VM starts where there is a way', () => {
    const { bench, from } = cluster()
    const rounds = (bench.state.cluster.settings.isolatedMs / 1_000) * ROUNDS_A_SECOND
    bench.hosts.get(from)!.access = [access('paused')]
    bench.round(rounds)
    expect(bench.placement('web')).toMatchObject({ host: from, epoch: bench.firstEpoch })
    bench.round(10)
    expect(bench.placement('web')?.host).not.toBe(from)
    expect(bench.placement('web')!.epoch).toBeGreaterThan(bench.firstEpoch)
    const fence = bench.traces.find(event => event.kind === 'decision.fence')
    expect(fence?.body).toMatchObject({
      subject: from,
      why: 'it has had no way to san-a for 30 s, and its VMs can have one elsewhere',
    })
    expect(bench.state.hosts.get(from)?.failures).toHaveLength(1)
  })

  it('is left alone as long as nobody else has one: time counts from when somebody has', () => {
    const { bench, from, others } = cluster()
    for (const host of bench.hosts.values()) host.access = [access('paused')]
    bench.round(200)
    for (const name of others) bench.hosts.get(name)!.access = [access('direct')]
    bench.round(20)
    // It was only later in finding its own.
    bench.hosts.get(from)!.access = [access('direct')]
    bench.round(200)
    expect(bench.placement('web')).toMatchObject({ host: from, epoch: bench.firstEpoch })
  })

  it('is left alone while others that do not have the volume open do not reach the storage', () => {
    const { bench, from, others } = cluster()
    bench.hosts.get(from)!.access = [access('paused')]
    for (const name of others) Object.assign(bench.hosts.get(name)!, { access: [], storages: ['san-b'] })
    bench.round(200)
    expect(bench.placement('web')?.host).toBe(from)
    bench.hosts.get(others[0]!)!.storages = ['san-a', 'san-b']
    bench.round(80)
    expect(bench.placement('web')?.host).toBe(others[0])
  })

  it('counts anew after it had a way itself', () => {
    const { bench, from } = cluster()
    bench.hosts.get(from)!.access = [access('paused')]
    bench.round(50)
    bench.hosts.get(from)!.access = [access('redirected')]
    bench.round(1)
    bench.hosts.get(from)!.access = [access('paused')]
    bench.round(50)
    expect(bench.placement('web')?.host).toBe(from)
    bench.round(20)
    expect(bench.placement('web')?.host).not.toBe(from)
  })

  it('has its VMs that do have a way moved live, and is fenced when nothing is left that goes on', () => {
    const { bench, from } = withAnother()
    create(bench, 'well', from)
    bench.hosts.get(from)!.access = [access('paused'), WELL]
    bench.round(56)
    expect(bench.state.migrations.size).toBe(0)
    bench.round(24)
    const [migration] = [...bench.state.migrations.values()]
    expect(migration).toMatchObject({ vm: 'well', source: { host: from } })
    // However long that takes.
    bench.round(40)
    expect(decided(bench, 'fence')).toEqual([])
    expect(decided(bench, 'strand').map(({ body }) => body)).toMatchObject([
      {
        ...{ subject: from, saw: { waiting: ['web'], others: ['well'] } },
        chose: 'move its other VMs away, then fence it',
        why: 'some of its VMs have had no way to san-a for 30 s, and can have one elsewhere',
      },
    ])
    arrive(bench, migration!)
    bench.round(12)
    expect(decided(bench, 'fence')).toMatchObject([{ body: { subject: from } }])
    expect(decided(bench, 'vm-lost')).toMatchObject([{ body: { subject: 'web' } }])
    expect(bench.placement('well')).toMatchObject({ host: migration!.target.host, epoch: migration!.epoch })
    expect(bench.placement('web')?.host).not.toBe(from)
  })

  it('is kept while one that goes on has nowhere to go, and says why', () => {
    const { bench, from, others } = withAnother()
    create(bench, 'well', from)
    bench.hosts.get(from)!.access = [access('paused'), WELL]
    for (const name of others) bench.hosts.get(name)!.storages = ['san-a']
    bench.round(200)
    expect([bench.placement('web')?.host, bench.placement('well')?.host]).toEqual([from, from])
    expect(decided(bench, 'strand')).toMatchObject([{ body: { chose: 'leave all where it is' } }])
    expect(why(bench, from)).toMatch(/well \(no other host can take it: host-.: it does not reach san-b/)
    bench.hosts.get(others[0])!.storages = ['san-a', 'san-b']
    bench.round(4)
    expect([...bench.state.migrations.values()]).toMatchObject([{ vm: 'well', target: { host: others[0] } }])
    expect(decided(bench, 'strand').at(-1)).toMatchObject({ body: { chose: 'move its other VMs away, then fence it' } })
  })

  it('is kept, and nothing moved, where that would take the room of what waits', () => {
    const { bench, from, others } = withAnother()
    create(bench, 'big', others[1], 'csv2', 2 ** 29)
    create(bench, 'full', others[0], 'csv2', 2 ** 30 - 2 ** 25)
    create(bench, 'well', from, 'csv2', 2 ** 29)
    strand(bench, from)
    bench.round(200)
    expect(bench.state.migrations.size).toBe(0)
    expect(why(bench, from)).toMatch(/well \(.*it would be full, with what waits for its storage/)
    expect(bench.placement('web')?.host).toBe(from)
  })

  it('is left for a host that is not in quarantine, and kept where there is only one that is', () => {
    const { bench, from, others } = withAnother()
    const [bad, sound] = others
    create(bench, 'well', from)
    create(bench, 'load', sound)
    const quarantine = { sinceMs: 0, untilMs: 1e15, why: 'it failed' }
    bench.state.hosts.set(bad, { ...bench.state.hosts.get(bad)!, quarantine })
    strand(bench, from)
    bench.round(64)
    expect([...bench.state.migrations.values()]).toMatchObject([{ vm: 'well', target: { host: sound } }])
    bench.command({ kind: 'vm-cancel', name: 'well' })
    bench.hosts.get(sound)!.storages = []
    bench.round(20)
    expect(bench.state.liveHosts.get(from)?.stranded?.host).toBe('kept')
    expect(why(bench, from)).toContain(`${bad}: it is in quarantine`)
  })

  it('is kept when migrations of one that goes on are aborted again and again', () => {
    const { bench, from } = withAnother()
    create(bench, 'well', from)
    bench.hosts.get(from)!.access = [access('paused'), WELL]
    for (let round = 0; round < 120; round += 1) {
      bench.round()
      const { migration } = bench.state.vms.get('well')!
      if (migration !== null) bench.command({ kind: 'vm-cancel', name: 'well' })
    }
    expect(bench.state.migrations.size).toBe(3)
    expect(bench.state.liveHosts.get(from)?.stranded?.host).toBe('kept')
    expect(why(bench, from)).toMatch(/3 migrations of it were aborted, the last one because: an operator cancelled it/)
  })

  it('is kept for an export, which nobody else can take', () => {
    const { bench, from } = withAnother()
    const disk = { volume: 'csv2', disk: 'd1', readOnly: false }
    bench.command({ kind: 'disk-export', id: 'e1', ...disk, host: from, socket: null, port: 0 })
    bench.round(4)
    bench.hosts.get(from)!.access = [access('paused'), WELL]
    bench.round(200)
    expect(bench.placement('web')?.host).toBe(from)
    expect(why(bench, from)).toContain('it serves an export')
  })

  it('and its VM are told of when that has a way again', () => {
    const { bench, from } = withAnother()
    create(bench, 'well', from)
    bench.hosts.get(from)!.access = [access('paused'), WELL]
    bench.round(70)
    expect(why(bench, from)).toContain('the others are moved away')
    bench.hosts.get(from)!.access = [access('direct'), WELL]
    bench.round(2)
    expect(decided(bench, 'strand-over')).toMatchObject([
      { body: { subject: from, why: 'its VMs have a way to their storage again' } },
    ])
    expect(why(bench, from)).not.toContain('moved away')
  })

  it('gets nothing of another one that is left at the same time: both are empty, and fenced', () => {
    const { bench, from, others } = withAnother()
    const [other, last] = others
    create(bench, 'web-2', other, 'csv1')
    create(bench, 'well', from)
    create(bench, 'well-2', other)
    create(bench, 'big', last, 'csv2', 2 ** 28)
    for (const name of [from, other]) strand(bench, name)
    for (let round = 0; round < 120; round += 1) {
      bench.round()
      for (const each of bench.state.migrations.values()) if (each.phase === 'precopy') arrive(bench, each)
    }
    expect(['web', 'web-2', 'well', 'well-2'].map(name => bench.placement(name)?.host)).toEqual(Array(4).fill(last))
    expect(decided(bench, 'fence').map(({ body }) => (body as { subject: string }).subject)).toEqual([from, other])
    expect(bench.state.migrations.size).toBeLessThanOrEqual(3)
  })

  it('is not fenced for a VM that is to stop', () => {
    const { bench, from } = cluster()
    bench.hosts.get(from)!.access = [access('paused')]
    bench.holdBack = key => key.startsWith('stop/') || key.startsWith('vm.stop')
    bench.command({ kind: 'vm-stop', name: 'web' })
    bench.round(200)
    expect(bench.state.hosts.get(from)?.phase).toBe('admitted')
    expect(bench.traces.some(event => event.kind === 'decision.fence')).toBe(false)
  })
})
