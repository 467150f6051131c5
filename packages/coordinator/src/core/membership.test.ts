// Hosts that come back under their name, first placements after a start, and a coordinator whose state is an older copy.
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { load } from './load.ts'
import { Bench } from './testing.ts'

describe('a storage that is new in the configuration', () => {
  it('is told which hosts are admitted, as any that did not hear it', () => {
    const bench = Bench.cluster()
    bench.store.commit([{ delete: 'storages/san-b' }])
    bench.holdBack = key => key === 'admit/host-a/1/san-b'
    bench.restart()
    bench.round(4)
    expect(bench.state.hosts.get('host-a')).toMatchObject({ phase: 'admitted', epoch: 1, admitOwed: ['san-b'] })
    expect(bench.state.hosts.get('host-b')).toMatchObject({ phase: 'admitted', epoch: 1, admitOwed: [] })
    bench.answer('admit/host-a/1/san-b', { admitted: 1, fenced: 0 })
    expect(bench.state.hosts.get('host-a')?.admitOwed).toEqual([])
    // One that is known already is owed nothing.
    bench.restart()
    expect(bench.state.hosts.get('host-a')?.admitOwed).toEqual([])
  })
})

describe('a removed host', () => {
  const removed = () => {
    const bench = Bench.cluster()
    const name = ['host-a', 'host-b', 'host-c'].find(each => each !== bench.placement('web')?.host)!
    expect(bench.command({ kind: 'host-remove', name }).body).toEqual({ host: name })
    return { bench, name }
  }

  it('is fenced on every storage, told until it answers, and not admitted again by itself', () => {
    const bench = Bench.cluster()
    const name = ['host-a', 'host-b', 'host-c'].find(each => each !== bench.placement('web')?.host)!
    bench.holdBack = key => key === `fence/${name}/1/san-b`
    bench.command({ kind: 'host-remove', name })
    bench.round(20)
    expect(bench.state.hosts.get(name)).toMatchObject({ removed: true, phase: 'fenced', epoch: 1 })
    expect(bench.state.hosts.get(name)?.fence?.acknowledged).toEqual(['san-a'])
    expect(bench.beat(name)).toMatchObject({ status: 'fenced', leaseMs: 0 })
    bench.holdBack = () => false
    bench.round(20)
    expect(bench.state.hosts.get(name)?.fence?.acknowledged).toEqual(['san-a', 'san-b'])
    expect(bench.state.hosts.get(name)).toMatchObject({ removed: true, phase: 'fenced', epoch: 1 })
  })

  it('comes back under its name, above every epoch it had', () => {
    const { bench, name } = removed()
    bench.round(4)
    expect(bench.command({ kind: 'host-readmit', name }).body).toEqual({ host: name })
    bench.join(name, 2)
    bench.round(6)
    expect(bench.state.hosts.get(name)).toMatchObject({ removed: false, phase: 'admitted', epoch: 2 })
    expect(bench.beat(name)).toMatchObject({ status: 'admitted', epoch: 2, leaseMs: 3000 })
    expect(bench.state.map?.hosts.map(host => host.name)).toContain(name)
  })

  it('comes back above what storage has seen of it, should that be higher still', () => {
    const { bench, name } = removed()
    bench.round(4)
    bench.holdBack = key => key === `admit/${name}/2/san-a`
    bench.command({ kind: 'host-readmit', name })
    bench.join(name, 2)
    bench.round(2)
    bench.answer(`admit/${name}/2/san-a`, { admitted: 9, fenced: 8 })
    bench.round(4)
    expect(bench.state.hosts.get(name)).toMatchObject({ phase: 'admitted', epoch: 10 })
  })

  it('only what was removed comes back by that', () => {
    const bench = Bench.cluster()
    expect(bench.command({ kind: 'host-readmit', name: 'host-a' })).toMatchObject({ refused: 'not-removed' })
    expect(bench.command({ kind: 'host-readmit', name: 'host-z' })).toMatchObject({ refused: 'unknown-host' })
  })
})

describe('the guardian of a host', () => {
  const hello = (guardian: string, incarnation: number, port: number) =>
    ({
      kind: 'agent-up',
      hello: {
        host: 'host-d',
        incarnation,
        guardian,
        control: { network: 'cluster', host: 'd', port },
        memoryBytes: 1,
      },
    }) as const
  const bound = () => {
    const bench = Bench.cluster()
    bench.input(hello('first', 3, 1))
    return bench
  }

  it('is the one whose agent joined first: another takes over neither address nor session', () => {
    const bench = bound()
    bench.input(hello('second', 9, 2))
    expect(bench.state.hosts.get('host-d')).toMatchObject({ guardian: 'first', control: { port: 1 } })
    expect(bench.state.liveHosts.get('host-d')?.session).toEqual({ incarnation: 3 })
    bench.input(hello('first', 4, 3))
    expect(bench.state.hosts.get('host-d')).toMatchObject({ guardian: 'first', control: { port: 3 } })
  })

  it('alone attests its agents', () => {
    const bench = Bench.cluster()
    const name = bench.placement('web')!.host
    bench.input({ kind: 'attest', request: 900, host: name, guardian: 'stranger', incarnation: 99 })
    expect(bench.state.hosts.get(name)?.phase).toBe('admitted')
    expect(bench.replies.get(900)).toEqual({ body: {} })
    bench.input({ kind: 'attest', request: 901, host: name, incarnation: 99 })
    expect(bench.state.hosts.get(name)?.phase).not.toBe('admitted')
  })

  it('may be another after an operator removed the host and added it again, unless its own is there', () => {
    const bench = bound()
    bench.round(2)
    bench.command({ kind: 'host-remove', name: 'host-d' })
    bench.round(2)
    bench.command({ kind: 'host-readmit', name: 'host-d' })
    expect(bench.state.hosts.get('host-d')?.guardian).toBe('first')
    bench.command({ kind: 'host-remove', name: 'host-d' })
    bench.input({ kind: 'agent-down', host: 'host-d', incarnation: 3 })
    bench.command({ kind: 'host-readmit', name: 'host-d' })
    bench.input(hello('second', 1, 2))
    expect(bench.state.hosts.get('host-d')).toMatchObject({ guardian: 'second', control: { port: 2 } })
    expect(bench.state.liveHosts.get('host-d')?.session).toEqual({ incarnation: 1 })
  })
})

describe('first placements after the coordinator’s start', () => {
  const stoppedCluster = () => {
    const bench = Bench.cluster()
    for (const name of ['db', 'mail']) bench.createVm(name)
    bench.round(4)
    for (const name of ['web', 'db', 'mail']) bench.command({ kind: 'vm-stop', name })
    bench.round(4)
    for (const name of ['web', 'db', 'mail']) expect(bench.placement(name)).toBeNull()
    for (const host of bench.hosts.values()) host.storages = []
    bench.restart()
    for (const name of ['web', 'db', 'mail']) bench.command({ kind: 'vm-start', name, host: null })
    return bench
  }
  const hostsOf = (bench: Bench) => ['web', 'db', 'mail'].map(name => bench.placement(name)?.host ?? null)

  it('wait for hosts that report a little later, and spread over them', () => {
    const bench = stoppedCluster()
    bench.hosts.get('host-b')!.storages = ['san-a', 'san-b']
    bench.round(3)
    expect(hostsOf(bench)).toEqual([null, null, null])
    expect(bench.state.liveVms.get('web')?.whyNot).toContain('waits for host-a, host-c to report')
    for (const host of bench.hosts.values()) host.storages = ['san-a', 'san-b']
    bench.round(2)
    expect(hostsOf(bench).sort()).toEqual(['host-a', 'host-b', 'host-c'])
  })

  it('do not wait longer than the grace for a host that stays away', () => {
    const bench = stoppedCluster()
    bench.hosts.get('host-b')!.storages = ['san-a', 'san-b']
    bench.hosts.get('host-c')!.beating = false
    const { startedAt } = bench.state
    while (hostsOf(bench).includes(null)) bench.round()
    expect(bench.now - startedAt).toBeGreaterThanOrEqual(3_000)
    expect(bench.now - startedAt).toBeLessThan(6_000)
  })
})

describe('a coordinator whose state is older than the cluster steps down', () => {
  /** A cluster goes on, then its coordinator is started from a copy made before that. */
  const rolledBack = (since: (bench: Bench) => void) => {
    const bench = Bench.cluster()
    const copy = structuredClone([...bench.store.values])
    since(bench)
    bench.store.values.clear()
    for (const [key, value] of copy) bench.store.values.set(key, value)
    bench.restart()
    return bench
  }

  it('when an agent knows a higher epoch of its host', () => {
    const bench = rolledBack(before => {
      const name = before.placement('web')!.host
      before.hosts.get(name)!.beating = false
      before.round(20)
      before.hosts.get(name)!.beating = true
      before.join(name)
      before.round(6)
      expect(before.hosts.get(name)?.epoch).toBe(2)
    })
    expect(() => bench.round()).toThrow(/is at epoch 2, known here: 1; .*restore/)
  })

  it('when an agent runs a VM at a placement epoch that was given out later', () => {
    const bench = rolledBack(before => {
      before.command({ kind: 'vm-stop', name: 'web' })
      before.round(3)
      before.command({ kind: 'vm-start', name: 'web', host: null })
      before.round(3)
      expect(before.placement('web')?.epoch).toBe(before.firstEpoch + 1)
    })
    expect(() => bench.round()).toThrow(/VM web is at placement epoch \d+, known here: \d+/)
  })

  it('and grants no lease and decides nothing of what the beat said', () => {
    const bench = Bench.cluster()
    const name = bench.placement('web')!.host
    bench.hosts.get(name)!.epoch = 7
    const before = structuredClone([...bench.store.values])
    const granted = bench.traces.filter(event => event.kind === 'lease.granted').length
    expect(() => bench.beat(name)).toThrow(/epoch 7/)
    expect(bench.traces.filter(event => event.kind === 'lease.granted')).toHaveLength(granted)
    expect([...bench.store.values]).toEqual(before)
  })

  it('and when an order is refused because its term is over', () => {
    const bench = Bench.cluster()
    const unanswered = {
      kind: 'unanswered',
      key: 'start/web/1',
      code: 'stale-term',
      message: 'term 1 is over',
    } as const
    expect(() => bench.input(unanswered)).toThrow('term 1 is over')
  })

  it('and says which run it is to every storage until each has taken it, so that one from an older state is refused', () => {
    const bench = new Bench()
    const said: string[] = []
    bench.holdBack = key => {
      if (key.startsWith('run/')) said.push(key)
      return key === 'run/san-b' && said.filter(each => each === key).length < 3
    }
    bench.round(10)
    expect(said.filter(key => key === 'run/san-a')).toHaveLength(1)
    expect(said.filter(key => key === 'run/san-b')).toHaveLength(3)
    const { run } = bench.state
    bench.restart()
    bench.round(2)
    expect(bench.state.run).not.toBe(run)
    expect(bench.state.announced.size).toBe(2)
  })

  it('but goes on when all that was seen is known to it', () => {
    const bench = rolledBack(() => undefined)
    bench.round(4)
    expect(bench.placement('web')?.phase).toBe('running')
  })
})

describe('a state that is not this coordinator’s', () => {
  const open = (entries: Record<string, Json>) => {
    const { store } = new Bench()
    store.values.clear()
    for (const [key, value] of Object.entries(entries)) store.values.set(key, value)
    const before = JSON.stringify([...store.values])
    expect(() => load(store, 'test', PROFILES.lab, [], 0, 0, 'run')).toThrow(
      expect.objectContaining({ code: 'foreign-state' }),
    )
    expect(JSON.stringify([...store.values])).toBe(before)
  }

  it('but of another cluster’s is refused and left as it is', () => {
    open({ cluster: { cluster: 'other', settings: { ...PROFILES.lab }, term: 7 } })
  })

  it('but of another kind of process is refused and left as it is: it would begin below every epoch', () => {
    open({ 'epochs/host-a': 4 })
  })
})
