import { Value } from '@stellwerk/protocol/schema/typebox.js'
import { describe, expect, it } from 'vitest'
import type { DecisionRecord } from '../core/state.ts'
import { Bench } from '../core/testing.ts'
import { canLose } from './can-lose.ts'
import { StatusSchema } from './schemas.ts'
import { statusOf } from './status.ts'
import { whyOf } from './why.ts'

const decisionsOf = (bench: Bench) =>
  bench.store.entries('decisions/').map(([, value]) => value as unknown as DecisionRecord)

describe('status', () => {
  it('shows what is wanted and what is side by side, each with an age, and fits its schema', () => {
    const bench = Bench.cluster()
    bench.now += 120
    const status = statusOf(bench.state, bench.now)
    expect(Value.Check(StatusSchema, status)).toBe(true)
    expect(status.vms['web']).toMatchObject({
      state: 'running',
      desired: 'running',
      epoch: bench.placement('web')?.epoch,
      ageMs: 120,
    })
    expect(Object.keys(status.hosts)).toEqual(['host-a', 'host-b', 'host-c'])
    expect(status.hosts['host-a']).toMatchObject({ state: 'up', ageMs: 120, connected: true })
    expect(status.volumes['csv1']).toMatchObject({ state: 'serving', usage: null })
  })

  it('a volume that cannot be opened says why, and its ownership stays where it is', () => {
    const bench = Bench.cluster()
    const epoch = bench.state.volumes.get('csv1')?.ownerEpoch
    bench.ownersSay = { state: 'damaged', why: 'the journal is blank' }
    bench.round(80)
    expect(statusOf(bench.state, bench.now).volumes['csv1']).toMatchObject({
      state: 'damaged',
      whyNot: 'the journal is blank',
      ownerEpoch: epoch,
    })
    expect(whyOf(bench.state, 'volume', 'csv1', decisionsOf(bench), bench.now)?.now.join(' ')).toContain(
      'because the journal is blank',
    )
    // Another host may do better with what is not the volume's own fault.
    bench.ownersSay = { state: 'opening', why: 'no path' }
    bench.round(40)
    expect(bench.state.volumes.get('csv1')?.ownerEpoch).toBeGreaterThan(epoch ?? 0)
  })

  it('a storage that no host reaches makes its volumes unreachable, and no volume is made on it', () => {
    const bench = Bench.cluster()
    const [{ storage = '' } = {}] = bench.state.volumes.get('csv1')?.legs ?? []
    for (const host of bench.hosts.values()) host.storages = host.storages.filter(name => name !== storage)
    bench.round(30)
    expect(statusOf(bench.state, bench.now).volumes['csv1']).toMatchObject({
      state: 'unreachable',
      whyNot: `no host reaches storage ${storage}`,
    })
    const create = { kind: 'volume-create', name: 'csv9', id: 'v9', sizeBytes: 64 * 1024 * 1024 } as const
    expect(bench.command({ ...create, storages: [storage] })).toMatchObject({ refused: 'storage-unreachable' })
    expect(bench.command({ ...create, storages: [storage === 'san-a' ? 'san-b' : 'san-a'] }).refused).toBeUndefined()
  })

  it('looking changes nothing', () => {
    const bench = Bench.cluster()
    bench.state.liveHosts.delete('host-c')
    const before = JSON.stringify([...bench.state.hosts, ...bench.state.vms, [...bench.state.liveHosts.keys()]])
    statusOf(bench.state, bench.now)
    expect(JSON.stringify([...bench.state.hosts, ...bench.state.vms, [...bench.state.liveHosts.keys()]])).toBe(before)
  })

  it('unknown is not down: a silent host’s VM is unknown, its paths too, until something is known', () => {
    const bench = Bench.cluster()
    const host = bench.placement('web')?.host ?? ''
    bench.state.liveHosts.get(host)!.paths = [
      {
        ...{ storage: 'san-a', path: 'fabric-0/san-a', state: 'up', why: 'answers', sinceMs: 10, via: null },
        ...{ latencyMs: 0.5, queue: 1, requests: 7, errors: 0 },
      },
    ]
    expect(statusOf(bench.state, bench.now).paths[`${host}/fabric-0/san-a`]).toMatchObject({ state: 'up' })
    bench.now += 1_600
    const status = statusOf(bench.state, bench.now)
    expect(status.vms['web']).toMatchObject({ state: 'unknown', host, ageMs: 1_600 })
    expect(status.paths[`${host}/fabric-0/san-a`]).toMatchObject({ state: 'unknown', fabric: 'fabric-0' })
  })

  it('a host is fencing, then fenced, then up again at the next epoch', () => {
    const bench = Bench.cluster()
    const host = bench.placement('web')?.host ?? ''
    const stateOf = () => statusOf(bench.state, bench.now).hosts[host]?.state
    bench.holdBack = key => key.startsWith('fence/')
    bench.hosts.get(host)!.beating = false
    bench.round(8)
    expect(stateOf()).toBe('fencing')
    bench.holdBack = () => false
    bench.answer(`fence/${host}/1/san-a`, { lastSeenMs: 100_000 })
    expect(stateOf()).toBe('fenced')
    bench.hosts.get(host)!.beating = true
    bench.join(host)
    bench.round(12)
    expect(stateOf()).toBe('up')
    expect(statusOf(bench.state, bench.now).hosts[host]?.epoch).toBe(2)
  })

  it('a host without VMs that falls silent is down', () => {
    const bench = Bench.cluster()
    const idle = ['host-a', 'host-b', 'host-c'].find(name => {
      const volume = bench.state.volumes.get('csv1')
      return name !== bench.placement('web')?.host && name !== volume?.owner?.host
    })
    bench.hosts.get(idle ?? '')!.beating = false
    bench.round(20)
    expect(statusOf(bench.state, bench.now).hosts[idle ?? '']?.state).toBe('down')
  })

  it('a migration under way shows its phase and the last round', () => {
    const bench = Bench.cluster()
    bench.command({ kind: 'vm-migrate', name: 'web', to: null, id: 'm1' })
    const bytes = { totalBytes: 8000, leftBytes: 2000, bytesPerSecond: 5000, dirtyBytesPerSecond: 1000 }
    const progress = { round: 2, pagesSent: 30, bytesSent: 4096, dirtyPages: 5, forecastMs: 12, ...bytes }
    bench.input({ kind: 'migration-progress', migration: 'm1', converged: false, ...progress })
    const vm = statusOf(bench.state, bench.now).vms['web']
    expect(vm).toMatchObject({ state: 'migrating', migration: { id: 'm1', phase: 'precopy', statistics: progress } })
    expect(vm?.migration).toMatchObject({ progress: { round: 2, percent: 75, sentBytes: 4096, leftMs: 500 } })
  })
})

describe('a resync', () => {
  /** A mirror whose second leg is being made, with what its owner says of it. */
  const view = (sync: NonNullable<Bench['sync']>, byHosts: readonly number[] = []) => {
    const bench = Bench.cluster()
    const volume = bench.state.volumes.get('csv1')!
    const leg = { ...volume.legs[0]!, leg: 'b', storage: 'san-b', role: 'syncing' as const }
    bench.state.volumes.set('csv1', { ...volume, legs: [...volume.legs, leg] })
    bench.sync = sync
    bench.beat(volume.owner!.host)
    const hosts = ['host-a', 'host-b', 'host-c']
    byHosts.forEach((copiedBytes, n) => {
      const generation = n === 0 ? volume.generation : volume.generation - 1
      bench.state.liveHosts.get(hosts[n]!)!.resyncs = new Map([['csv1', { generation, copiedBytes }]])
    })
    return statusOf(bench.state, bench.now).volumes['csv1']?.legs[1]
  }

  it('counts what the owner and the hosts have copied in its generation, and tells how long it takes yet', () => {
    const half = { done: false, disks: 2, synced: 0, copiedBytes: 1_000, totalBytes: 8_000 }
    expect(view(half, [3_000, 4_000])).toMatchObject({
      percent: 50,
      resync: { copiedBytes: 4_000, totalBytes: 8_000, bytesPerSecond: 2_000, leftMs: 2_000 },
    })
  })

  it('goes by the disks while nobody knows how much there is', () => {
    expect(view({ done: false, disks: 4, synced: 1 })).toMatchObject({ percent: 25, resync: null })
  })

  it('is not 100 % before it is done, though some was copied twice', () => {
    const twice = { done: false, disks: 2, synced: 1, copiedBytes: 9_000, totalBytes: 8_000 }
    expect(view(twice)).toMatchObject({ percent: 99, resync: { copiedBytes: 8_000, leftMs: 0 } })
  })
})

describe('can lose', () => {
  it('one host, when every VM fits elsewhere; no storage while volumes have one leg', () => {
    const bench = Bench.cluster()
    expect(canLose(bench.state).summary).toBe('can lose: 1 host yes · 1 storage NO (csv1: one leg)')
  })

  it('no host, when its VMs do not all fit on the others together', () => {
    const bench = Bench.cluster()
    for (const [name, host] of [...bench.state.hosts]) bench.state.hosts.set(name, { ...host, memoryBytes: 2 ** 26 })
    const home = bench.placement('web')?.host ?? ''
    bench.createVm('db')
    bench.round(3)
    expect(canLose(bench.state).host.ok).toBe(true)
    bench.createVm('app')
    bench.round(3)
    const verdict = canLose(bench.state)
    expect(verdict.host.ok).toBe(false)
    expect(verdict.host.why).toContain(`${home}: web fits nowhere else`)
  })

  it('no host, when nobody else reaches the storage', () => {
    const bench = Bench.cluster()
    const home = bench.placement('web')?.host ?? ''
    for (const [name, host] of bench.hosts) if (name !== home) host.storages = ['san-b']
    bench.round(2)
    expect(canLose(bench.state).host.why.join()).toMatch(/web fits nowhere else/)
  })

  it('no storage of a mirror, when nobody reaches one of the two already; its hosts can still be lost', () => {
    const bench = Bench.cluster()
    const volume = bench.state.volumes.get('csv1')!
    const [leg] = volume.legs
    bench.state.volumes.set('csv1', { ...volume, legs: [leg!, { ...leg!, leg: 'leg-1', index: 1, storage: 'san-b' }] })
    const hear = (storages: string[]) => {
      for (const live of bench.state.liveHosts.values()) live.reachableStorages = storages
      return canLose(bench.state)
    }
    expect(hear(['san-a', 'san-b']).summary).toBe('can lose: 1 host yes · 1 storage yes')
    const { owner } = bench.state.volumes.get('csv1')!
    const live = bench.state.liveHosts.get(owner!.host)!
    const reported = live.volumes
    live.volumes = new Map([['csv1', { ...reported.get('csv1')!, state: 'damaged' }]])
    expect(hear(['san-a', 'san-b']).storage.why).toEqual(['csv1: no host serves it'])
    live.volumes = reported
    const verdict = hear(['san-a'])
    expect(verdict.storage.why).toEqual(['csv1: leg san-b unreachable'])
    expect(verdict.host.why.filter(why => why.includes('nobody else reaches'))).toEqual([])
  })

  it('no host, when only one is up', () => {
    const bench = Bench.cluster()
    const home = bench.placement('web')?.host ?? ''
    for (const [name, host] of bench.hosts) if (name !== home) host.beating = false
    bench.round(10)
    expect(canLose(bench.state).summary).toMatch(/^can lose: 1 host NO \(only one host is up\)/)
  })
})

describe('why', () => {
  it('a VM is where it is: the decision, and what else was thought of', () => {
    const bench = Bench.cluster()
    const why = whyOf(bench.state, 'vm', 'web', decisionsOf(bench), bench.now)
    expect(why?.now[0]).toMatch(/^It is running on host-\w; it is to be running\.$/)
    expect(why?.decisions).toMatchObject([{ kind: 'place', subject: 'web' }])
    expect(why?.decisions[0]?.rejected).toHaveLength(2)
  })

  it('a VM does not run: what keeps it', () => {
    const bench = Bench.cluster()
    for (const [name, host] of [...bench.state.hosts]) bench.state.hosts.set(name, { ...host, memoryBytes: 2 ** 26 })
    for (const name of ['a', 'b', 'c']) bench.createVm(name)
    bench.round(3)
    const waiting = [...bench.state.vms.values()].find(vm => vm.placement === null)
    const why = whyOf(bench.state, 'vm', waiting?.name ?? '', decisionsOf(bench), bench.now)
    expect(why?.now.join(' ')).toMatch(/It is not started because no host fits: host-a: it has \d+ MiB of memory free/)
  })

  it('a host is fenced: why, by whom its death is attested, what it waits for', () => {
    const bench = Bench.cluster()
    const host = bench.placement('web')?.host ?? ''
    bench.hosts.get(host)!.beating = false
    bench.input({ kind: 'agent-down', host, incarnation: 1 })
    bench.ask(request => ({ kind: 'attest', request, host, incarnation: 1 }))
    const why = whyOf(bench.state, 'host', host, decisionsOf(bench), bench.now)
    expect(why?.now).toContain("Its agent's death was attested by its guardian.")
    expect(why?.now).toContain('It is admitted again when its agent is back.')
    expect(why?.decisions.map(decision => decision.kind)).toEqual(['host-joined', 'fence', 'fenced'])
  })

  it('a volume has the owner it has', () => {
    const bench = Bench.cluster()
    const why = whyOf(bench.state, 'volume', 'csv1', decisionsOf(bench), bench.now)
    expect(why?.now[0]).toMatch(/^It is serving; owned by host-\w at epoch 1\.$/)
    expect(why?.decisions).toMatchObject([{ kind: 'owner' }])
  })

  it('there is no answer about what is not there', () => {
    const bench = Bench.cluster()
    expect(whyOf(bench.state, 'vm', 'nobody', [], bench.now)).toBe(null)
    expect(whyOf(bench.state, 'host', 'web', [], bench.now)).toBe(null)
  })
})
