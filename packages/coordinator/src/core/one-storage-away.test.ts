// A storage with the only leg of some volume is away for good: what is elsewhere goes on, also when hosts are lost, and after a
// restore of the cluster.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { whyOf } from '../view/why.ts'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']

function createVm(bench: Bench, name: string, volume: string): void {
  bench.command({
    ...{ kind: 'vm-create', name, start: true, priority: 0, host: 'host-a' },
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
    disks: [{ volume, sizeBytes: 2 ** 20 }],
  })
}

function withVolumes(...volumes: (readonly [string, readonly string[]])[]): Bench {
  const bench = new Bench()
  for (const name of HOSTS) bench.join(name)
  bench.round(2)
  for (const [name, storages] of volumes) {
    bench.command({ kind: 'volume-create', name, id: `id-${name}`, sizeBytes: 2 ** 30, storages })
  }
  bench.round(4)
  return bench
}

function losesSanB(bench: Bench): void {
  bench.holdBack = key => key.endsWith('/san-b')
  for (const host of bench.hosts.values()) host.storages = ['san-a']
}

describe('a host is lost that had VMs on two storages, of which one is away (FEN1, FEN2)', () => {
  function lost() {
    const bench = withVolumes(['csv1', ['san-a']], ['csv2', ['san-b']])
    createVm(bench, 'here', 'csv1')
    createVm(bench, 'there', 'csv2')
    bench.round(4)
    expect([bench.placement('here')?.host, bench.placement('there')?.host]).toEqual(['host-a', 'host-a'])
    losesSanB(bench)
    bench.round(4)
    bench.hosts.get('host-a')!.beating = false
    return bench
  }

  it('the VM on the other one restarts, when its own leases are over, and what the host left there is recovered', () => {
    const bench = lost()
    // As if the host had asked that storage until now.
    bench.lastSeenMs = (_host, storage) => (storage === 'san-a' ? 0 : 100_000)
    while (bench.state.hosts.get('host-a')?.phase === 'admitted') bench.round()
    const fencedAt = bench.now
    while (bench.placement('here')?.host === 'host-a' || bench.placement('here') === null) {
      bench.round()
      if (bench.now > fencedAt + 30_000) throw new Error('never restarted')
    }
    expect(bench.now - fencedAt).toBeGreaterThanOrEqual(3_000 * 1.04)
    expect(bench.traces.find(({ kind }) => kind === 'failover.start')?.body).toMatchObject({ legs: ['san-a'] })
    expect([...bench.state.recoveries.keys()]).toEqual(['csv2/host-a/1'])
  })

  it('the VM on the one that is away waits for it, and says so', () => {
    const bench = lost()
    bench.round(200)
    expect(bench.state.hosts.get('host-a')?.phase).toBe('fencing')
    expect(bench.placement('there')?.host).toBe('host-a')
    const why = whyOf(bench.state, 'vm', 'there', [], bench.now)?.now.join(' ')
    expect(why).toContain('Host host-a is being fenced; still to acknowledge: san-b.')
    expect(whyOf(bench.state, 'host', 'host-a', [], bench.now)?.now.join(' ')).toContain('acknowledged by san-b')
    bench.holdBack = () => false
    for (const host of bench.hosts.values()) host.storages = ['san-a', 'san-b']
    bench.round(60)
    expect(bench.placement('there')?.host).not.toBe('host-a')
  })

  it('VMs are made and started on the other one', () => {
    const bench = lost()
    bench.round(30)
    bench.command({
      ...{ kind: 'vm-create', name: 'new', start: true, priority: 0, host: 'host-b' },
      spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
      disks: [{ volume: 'csv1', sizeBytes: 2 ** 20 }],
    })
    bench.round(4)
    expect(bench.placement('new')).toMatchObject({ phase: 'running' })
  })
})

describe('a cluster is restored while a storage is away', () => {
  function restored(storages: readonly string[]): Bench {
    const bench = withVolumes(['csv1', storages])
    bench.createVm('web')
    bench.round(4)
    losesSanB(bench)
    const { generation, legs } = bench.state.volumes.get('csv1')!
    const leg = legs.find(({ storage }) => storage === 'san-b')!.leg
    const report = { volume: 'csv1', host: bench.placement('web')!.host, hostEpoch: 1, generation, leg, why: 'gone' }
    if (storages.length > 1) bench.ask(request => ({ kind: 'leg-lost', request, report }))
    bench.round(10)
    const copy = JSON.parse(JSON.stringify(copyOf(bench.state))) as Json
    const after = new Bench()
    losesSanB(after)
    for (const [key, marks] of bench.marks) after.marks.set(key, marks)
    after.store.commit(restoreFrom(copy, 0))
    after.restart()
    for (const name of HOSTS) after.join(name).storages = ['san-a']
    after.now += 3_000
    after.input({ kind: 'unanswered', key: 'run/san-b', code: 'deadline', message: 'no answer' })
    return after
  }

  it('with only a stale leg there: everything starts again, and the hosts are admitted', () => {
    const bench = restored(['san-a', 'san-b'])
    bench.round(20)
    expect(bench.state.volumes.get('csv1')).toMatchObject({ unsure: false })
    for (const { name, epoch } of bench.state.hosts.values()) {
      bench.input({ kind: 'unanswered', key: `admit/${name}/${epoch}/san-b`, code: 'deadline', message: 'no answer' })
    }
    bench.round(10)
    expect([...bench.state.hosts.values()].map(({ phase }) => phase)).toEqual(['admitted', 'admitted', 'admitted'])
    expect(bench.placement('web')).toMatchObject({ phase: 'running' })
  })

  it('with a volume’s only leg there: nothing is believed of it, and nothing starts', () => {
    const bench = restored(['san-b'])
    bench.round(200)
    for (const { phase } of bench.state.hosts.values()) expect(phase).toBe('fencing')
  })
})

describe('a cluster is restored, where the marks that answer are of before the other leg was the only one (IO1, FEN1)', () => {
  /** The last that san-a was told is that san-b catches up; since then that one has come in sync, and san-a been given up. */
  function behind(sanBAnswers: boolean, copyIsOlder: boolean): Bench {
    const bench = withVolumes(['csv1', ['san-a', 'san-b']])
    createVm(bench, 'web', 'csv1')
    bench.round(4)
    const volume = () => bench.state.volumes.get('csv1')!
    const roleOf = (storage: string) => volume().legs.find(leg => leg.storage === storage)?.role
    const copied = () => JSON.parse(JSON.stringify(copyOf(bench.state))) as Json
    const lose = (storage: string) => {
      const { leg } = volume().legs.find(each => each.storage === storage)!
      const host = bench.placement('web')!.host
      const report = { volume: 'csv1', host, hostEpoch: 1, generation: volume().generation, leg, why: 'gone' }
      bench.ask(request => ({ kind: 'leg-lost', request, report }))
    }
    lose('san-b')
    bench.sync = { done: false, disks: 1, synced: 0 }
    while (roleOf('san-b') !== 'syncing') bench.round()
    bench.round(2)
    const older = copied()
    bench.holdBack = key => key.startsWith('generation/') && key.endsWith('/san-a')
    bench.sync = { done: true, disks: 1, synced: 1 }
    while (roleOf('san-a') !== 'stale') {
      bench.round()
      lose('san-a')
    }
    bench.round(2)
    const after = new Bench()
    after.holdBack = key => !sanBAnswers && key.endsWith('/san-b')
    for (const [key, marks] of bench.marks) after.marks.set(key, marks)
    after.store.commit(restoreFrom(copyIsOlder ? older : copied(), 0))
    after.restart()
    for (const name of HOSTS) {
      if (name !== bench.placement('web')!.host)
        after.join(name).storages = sanBAnswers ? ['san-a', 'san-b'] : ['san-a']
    }
    after.now += 3_000
    if (!sanBAnswers) after.input({ kind: 'unanswered', key: 'run/san-b', code: 'deadline', message: 'no answer' })
    after.round(60)
    return after
  }

  it.each([false, true])('that leg is gone on with where it answers (an older copy: %s)', copyIsOlder => {
    const bench = behind(true, copyIsOlder)
    const roles = bench.state.volumes.get('csv1')!.legs.map(({ storage, role }) => `${storage} ${role}`)
    expect(roles[1]).toBe('san-b in-sync')
    expect(roles[0]).not.toBe('san-a in-sync')
  })

  it.each([false, true])('and nothing starts where it does not (an older copy: %s)', copyIsOlder => {
    const bench = behind(false, copyIsOlder)
    expect(bench.state.volumes.get('csv1')).toMatchObject({ unsure: true })
    expect(bench.state.liveVolumes.get('csv1')?.why).toContain('san-b has not answered')
    for (const { phase } of bench.state.hosts.values()) expect(phase).toBe('fencing')
  })
})
