import type { AccessReport } from '@stellwerk/protocol/messages/cluster.ts'
import { describe, expect, it } from 'vitest'
import { leftToDrain } from './drains.ts'
import type { MigrationRecord } from './state.ts'
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

/** Besides a VM that waits for its volume's storage one on the same host that does not. */
function withAnother() {
  const { bench, from, others } = cluster()
  bench.command({ kind: 'volume-create', name: 'csv2', id: 'v2', sizeBytes: 2 ** 30, storages: ['san-b'] })
  bench.round(2)
  bench.command({
    ...{ kind: 'vm-create', name: 'well', start: true, priority: 0, host: from },
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
    disks: [{ volume: 'csv2', sizeBytes: 2 ** 20 }],
  })
  bench.round(4)
  expect(bench.placement('well')?.host).toBe(from)
  bench.hosts.get(from)!.access = [access('paused'), access('direct', 'san-b', 'csv2')]
  return { bench, from, others }
}

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

  it('is left alone while one that goes on has nowhere to go, and says why', () => {
    const { bench, from, others } = withAnother()
    for (const name of others) bench.hosts.get(name)!.storages = ['san-a']
    bench.round(200)
    expect([bench.placement('web')?.host, bench.placement('well')?.host]).toEqual([from, from])
    expect(decided(bench, 'strand')).toHaveLength(1)
    expect(leftToDrain(bench.state, from).find(({ vm }) => vm === 'well')?.why).toMatch(/no other host can take/)
    bench.hosts.get(others[0]!)!.storages = ['san-a', 'san-b']
    bench.round(4)
    expect([...bench.state.migrations.values()]).toMatchObject([{ vm: 'well', target: { host: others[0] } }])
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
