// Hosts that come back under their name, whose guardian is whose, and first placements after a start.
import { describe, expect, it } from 'vitest'
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
  /** `away`: those whose agents are not there when the coordinator starts. */
  const stoppedCluster = (away: readonly string[] = []) => {
    const bench = Bench.cluster()
    for (const name of ['db', 'mail']) bench.createVm(name)
    bench.round(4)
    for (const name of ['web', 'db', 'mail']) bench.command({ kind: 'vm-stop', name })
    bench.round(4)
    for (const name of ['web', 'db', 'mail']) expect(bench.placement(name)).toBeNull()
    for (const host of bench.hosts.values()) host.storages = []
    for (const name of away) bench.hosts.get(name)!.beating = false
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

  it('wait for hosts whose agents have just come up, too', () => {
    const away = ['host-b', 'host-c']
    const bench = stoppedCluster(away)
    bench.hosts.get('host-a')!.storages = ['san-a', 'san-b']
    const patient = { ...bench.state.cluster.settings, startGraceMs: 60_000 }
    bench.state.cluster = { ...bench.state.cluster, settings: patient }
    bench.round(6)
    expect(hostsOf(bench)).toEqual([null, null, null])
    for (const name of away) {
      bench.hosts.get(name)!.beating = true
      bench.join(name)
    }
    bench.beat('host-a')
    bench.input({ kind: 'tick' })
    expect(hostsOf(bench)).toEqual([null, null, null])
    for (const host of bench.hosts.values()) host.storages = ['san-a', 'san-b']
    bench.round(2)
    expect(hostsOf(bench).sort()).toEqual(['host-a', 'host-b', 'host-c'])
  })

  it('do not wait for a host that has reported and is lost since: what ran there begins elsewhere at once', () => {
    const bench = Bench.cluster()
    bench.restart()
    const patient = { ...bench.state.cluster.settings, startGraceMs: 60_000 }
    bench.state.cluster = { ...bench.state.cluster, settings: patient }
    bench.round(2)
    const lost = bench.placement('web')!.host
    bench.hosts.get(lost)!.beating = false
    const lostAt = bench.now
    while (bench.placement('web')?.host === lost || bench.placement('web') === null) {
      bench.round()
      expect(bench.now - lostAt).toBeLessThan(60_000)
    }
    expect(bench.now - lostAt).toBeLessThan(patient.leaseMs + 3_000)
  })
})
