// A coordinator whose state is an older copy, or is not one, and what it may do before a storage has taken its run.

import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { isTaken } from './announce.ts'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import type { Command } from './commands.ts'
import { type Input, step } from './core.ts'
import { load, markAsOlder, whyMarkedAsOlder } from './load.ts'
import { Bench } from './testing.ts'

const vmCreate = (name: string): Command => ({
  kind: 'vm-create',
  spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
  ...{ name, start: true, priority: 0, host: null, disks: [] },
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

  it('when an agent runs a VM that was made later', () => {
    const bench = rolledBack(before => {
      before.command(vmCreate('later'))
      before.round(3)
      expect(before.placement('later')?.phase).toBe('running')
    })
    expect(() => bench.round()).toThrow(/VM later is at placement epoch \d+, known here: \d+/)
  })

  it('but not over a VM that it knows no more since it was deleted', () => {
    const bench = Bench.cluster()
    bench.command(vmCreate('gone'))
    bench.round(3)
    const { host, epoch } = bench.placement('gone')!
    bench.command({ kind: 'vm-delete', name: 'gone' })
    bench.round(6)
    expect(bench.state.vms.has('gone')).toBe(false)
    bench.hosts.get(host)!.machines.push({ vm: 'gone', epoch, state: 'running', why: null })
    bench.round(2)
    expect(bench.placement('web')?.phase).toBe('running')
  })

  it('when a storage knows a higher epoch of a host that it does not hear itself', () => {
    const bench = Bench.cluster()
    const copy = structuredClone([...bench.store.values])
    const name = bench.placement('web')!.host
    bench.hosts.get(name)!.beating = false
    bench.round(20)
    bench.hosts.get(name)!.beating = true
    bench.join(name, 2)
    bench.round(10)
    expect(bench.state.hosts.get(name)).toMatchObject({ phase: 'admitted', epoch: 2 })
    bench.command({ kind: 'vm-stop', name: 'web' })
    bench.round(4)
    for (const host of bench.hosts.values()) host.machines = []
    bench.command({ kind: 'vm-start', name: 'web', host: name })
    bench.round(6)
    expect(bench.placement('web')).toMatchObject({ host: name, phase: 'running' })
    // It runs there, is seen by storages, and does not reach the coordinator.
    bench.hosts.get(name)!.beating = false
    bench.storageMarks.set(name, { admitted: 2, fenced: 1 })
    bench.lastSeenMs = host => (host === name ? 100 : 100_000)
    bench.store.values.clear()
    for (const [key, value] of copy) bench.store.values.set(key, value)
    bench.traces.length = 0
    bench.restart()
    expect(() => bench.round(60)).toThrow(/storage san-. has seen epoch 2 of host \S+, known here: 1; .*restore/)
    expect(bench.traces.filter(({ kind }) => kind === 'decision.fenced' || kind === 'failover.start')).toEqual([])
  })

  it('when a storage has fenced a host that it takes for admitted', () => {
    const bench = Bench.cluster()
    const name = bench.placement('web')!.host
    bench.storageMarks.set(name, { admitted: 1, fenced: 1 })
    expect(() =>
      bench.input({
        kind: 'answered',
        key: `seen/${name}/san-a`,
        body: { storage: 'san-a', admitted: 1, fenced: 1, lastSeenMs: 5 },
      }),
    ).toThrow(/has fenced epoch 1 of host .*, of which nothing is known here/)
  })

  it('tells storages of each revision of its state, so that one which begins with a copy of an earlier moment is refused', () => {
    const bench = Bench.cluster()
    const told: number[] = []
    const { holdBack } = bench
    bench.holdBack = key => {
      if (key === 'run/san-a') told.push(bench.state.announcing.get('san-a')!)
      return holdBack(key)
    }
    const before = bench.state.revision
    bench.round(3)
    expect(told).toEqual([])
    bench.command(vmCreate('more'))
    bench.round(3)
    expect(bench.state.revision).toBeGreaterThan(before)
    expect(told.at(-1)).toBe(bench.state.revision)
    expect(bench.state.announced.get('san-a')).toBe(bench.state.revision)
  })

  it('carries nothing out, and tells of no revision of its own, before a storage has taken its run', () => {
    const bench = Bench.cluster()
    const { revision } = bench.state
    bench.holdBack = key => key.startsWith('run/')
    bench.restart()
    bench.orders.length = 0
    const before = JSON.stringify([...bench.store.values])
    expect(bench.command(vmCreate('early'))).toMatchObject({ refused: 'unconfirmed-state' })
    for (const kind of ['attest', 'migration-failed', 'migration-done', 'leg-lost'] as const) {
      bench.input({
        kind,
        request: 99,
        host: 'host-a',
        guardian: 'g',
        incarnation: 9,
        message: {},
        report: {},
      } as never)
      expect([kind, bench.replies.get(99)?.refused]).toEqual([kind, 'unconfirmed-state'])
    }
    for (const host of bench.hosts.values()) host.machines = []
    bench.round(4)
    for (const host of bench.hosts.values()) host.beating = false
    bench.round(60)
    expect(JSON.stringify([...bench.store.values])).toBe(before)
    expect(bench.orders).toEqual([])
    expect(bench.state.announcing.get('san-a')).toBe(revision)
    expect([...bench.state.hosts.values()].map(({ phase }) => phase)).toEqual(['admitted', 'admitted', 'admitted'])
    for (const host of bench.hosts.values()) host.beating = true
    bench.holdBack = () => false
    for (const storage of ['san-a', 'san-b']) bench.answer(`run/${storage}`, {})
    bench.command(vmCreate('early'))
    bench.round(20)
    expect(bench.placement('early')?.phase).toBe('running')
  })

  it('and when a storage has heard of a higher revision: for good, unless another storage has taken this run', () => {
    const message = 'revision 9 of it has been told of'
    const refused = { kind: 'unanswered', key: 'run/san-a', code: 'older-state', message } as const
    const steppingDown = (bench: Bench) =>
      step(bench.state, refused, bench.now, bench.now).effects.filter(({ kind }) => kind === 'step-down')
    const bench = Bench.cluster()
    expect(() => bench.input(refused)).toThrow('revision 9')
    expect(steppingDown(bench)).toEqual([{ kind: 'step-down', why: message }])
    bench.holdBack = key => key.startsWith('run/')
    bench.restart()
    expect(steppingDown(bench)).toEqual([{ kind: 'step-down', why: message, forGood: true }])
    expect(whyMarkedAsOlder(bench.store)).toBe(null)
    markAsOlder(bench.store, message)
    expect(whyMarkedAsOlder(bench.store)).toBe(message)
  })

  it('and before its run is taken neither grants a lease nor says how a migration ended', () => {
    const bench = Bench.cluster()
    const { host, epoch } = bench.placement('web')!
    bench.holdBack = key => key.startsWith('run/')
    bench.restart()
    bench.round(4)
    expect(bench.beat(host)).toMatchObject({ status: 'wait', epoch: 1, leaseMs: 0 })
    const asker = { migration: 'never', vm: 'web', host, incarnation: 1, epoch }
    for (const kind of ['migration-ask', 'migration-loaded'] as const) {
      bench.input({ kind, request: 77, message: asker })
      expect([kind, bench.replies.get(77)]).toEqual([kind, { body: { outcome: 'pending' } }])
    }
    bench.answer('run/san-a', {})
    bench.answer('run/san-b', {})
    // Its hello is asked for again.
    expect(bench.beat(host)).toMatchObject({ status: 'wait', epoch: 0 })
    expect(bench.beat(host)).toMatchObject({ status: 'admitted', leaseMs: 3000 })
  })

  it('what an untaken run changes does not make its state look newer, neither to this start nor to the next', () => {
    const bench = Bench.cluster()
    const { revision } = bench.state
    bench.holdBack = key => key.startsWith('run/')
    bench.restart()
    bench.round(3)
    expect(bench.state.revision).toBe(revision)
    bench.restart()
    bench.round(3)
    expect(bench.state.announcing.get('san-a')).toBe(revision)
    // One takes it; the other still hears what it began with.
    bench.answer('run/san-a', {})
    bench.round(1)
    expect(bench.state.announcing.get('san-b')).toBe(revision)
    expect(bench.state.revision).toBe(revision)
    bench.answer('run/san-b', {})
    bench.command(vmCreate('one'))
    expect(bench.state.revision).toBeGreaterThan(revision)
  })

  it('waits for every storage to answer or to let the question time out, and orders nothing of one that has not taken it', () => {
    const bench = Bench.cluster()
    const asked: string[] = []
    bench.holdBack = key => {
      asked.push(key)
      return key === 'run/san-b'
    }
    bench.restart()
    for (const host of bench.hosts.values()) host.beating = false
    bench.round(60)
    expect(asked.filter(key => !key.startsWith('run/'))).toEqual([])
    const deadline = { kind: 'unanswered', key: 'run/san-b', code: 'deadline', message: 'no answer' } as const
    bench.input(deadline)
    bench.round(60)
    expect(asked.some(key => key.endsWith('/san-a') && !key.startsWith('run/'))).toBe(true)
    expect(asked.filter(key => key.endsWith('/san-b') && !key.startsWith('run/'))).toEqual([])
    bench.answer('run/san-b', {})
    bench.round(2)
    expect(asked.some(key => key.endsWith('/san-b') && !key.startsWith('run/'))).toBe(true)
  })

  it('an answer that there is no way to a storage yet is not taken for its silence', () => {
    const bench = Bench.cluster()
    bench.holdBack = key => key === 'run/san-b'
    bench.restart()
    const away = { kind: 'unanswered', key: 'run/san-b', code: 'no-such-actor', message: 'not connected yet' } as const
    bench.input(away)
    expect(isTaken(bench.state)).toBe(false)
    bench.round(4)
    expect(isTaken(bench.state)).toBe(false)
    bench.input(away)
    expect(isTaken(bench.state)).toBe(true)
  })

  it('where a term is another run’s it takes one above, durably, before anybody else hears of it; a run that was taken steps down', () => {
    const bench = Bench.cluster()
    bench.holdBack = key => key.startsWith('run/')
    bench.restart()
    const first = bench.state.cluster.term
    bench.answer('run/san-a', {})
    bench.answer('run/san-b', { term: first + 6, run: 'an-older-copy' })
    const term = first + 7
    expect(bench.state.cluster.term).toBe(term)
    expect(bench.store.values.get('cluster')).toMatchObject({ term })
    expect(isTaken(bench.state)).toBe(false)
    // Late: what was asked under the term before.
    bench.answer('run/san-a', { term: first })
    expect(isTaken(bench.state)).toBe(false)
    bench.round(3)
    bench.answer('run/san-a', {})
    bench.answer('run/san-b', {})
    expect(isTaken(bench.state)).toBe(true)
    bench.restart()
    expect(bench.state.cluster.term).toBe(term + 1)
    bench.answer('run/san-a', {})
    bench.answer('run/san-b', {})
    expect(() => bench.answer('run/san-b', { term: term + 2, run: 'newer' })).toThrow('another coordinator')
  })

  it('a storage that has left the configuration and holds no leg is asked no more', () => {
    const bench = Bench.cluster()
    const at = { portals: [], control: [] }
    const state = load(bench.store, 'test', PROFILES.lab, [{ name: 'san-c', ...at }], 0, 0, 'run')
    // san-a has the volume's leg.
    expect([...state.storages.keys()].sort()).toEqual(['san-a', 'san-c'])
    expect(bench.store.get('storages/san-b')).toBe(undefined)
    for (const { admitOwed } of state.hosts.values()) expect(admitOwed).toEqual(['san-c'])
  })

  it('but one that has to acknowledge a fence is waited for, configured or not', () => {
    const copy = copyOf(Bench.cluster().state)
    const gone = { name: 'san-gone', portals: [], control: [] }
    const restored = new Bench()
    const known = JSON.parse(JSON.stringify({ ...copy, storages: [...copy.storages, gone] })) as Json
    restored.store.commit(restoreFrom(known, 0))
    // While it is not known which legs count, each may.
    restored.holdBack = key => key.endsWith('/san-gone') || key.startsWith('marks/')
    restored.restart()
    restored.join('host-a')
    restored.round(4)
    expect(restored.state.hosts.get('host-a')).toMatchObject({
      phase: 'fencing',
      fence: { needed: ['san-a', 'san-b', 'san-gone'] },
    })
    restored.holdBack = () => false
    restored.round(60)
    expect(restored.state.hosts.get('host-a')?.phase).toBe('admitted')
  })

  it('an agent that it heard before it was taken is known by then: the death of an older one does not count for it', () => {
    const bench = new Bench(['nas'])
    for (const name of ['host-a', 'host-b', 'host-c']) bench.join(name, 2)
    bench.round(2)
    bench.command({
      ...{ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['nas'] },
    } as Command)
    bench.round(4)
    bench.createVm('web')
    bench.round(8)
    const { host, epoch } = bench.placement('web')!
    bench.holdBack = key => key.startsWith('run/')
    bench.restart()
    bench.join(host, 3)
    bench.round(2)
    bench.hosts.get(host)!.beating = false
    for (const storage of ['san-a', 'san-b']) bench.answer(`run/${storage}`, {})
    bench.holdBack = () => false
    bench.input({ kind: 'attest', request: 999, host, incarnation: 2 } as Input)
    bench.round(60)
    expect(bench.state.hosts.get(host)?.fence).toMatchObject({ attestedIncarnation: 2, newestIncarnation: 3 })
    expect(bench.state.hosts.get(host)?.fence?.acknowledged).not.toContain('nas')
    expect(bench.placement('web')?.epoch ?? epoch).toBe(epoch)
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
    bench.restart()
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
