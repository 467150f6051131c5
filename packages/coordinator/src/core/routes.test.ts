import { describe, expect, it } from 'vitest'
import { mapOf } from './map.ts'
import { type Route, routeOf, type Standing } from './routes.ts'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c', 'host-d']

function route(standings: { readonly [host: string]: Standing }, owner: string | null, before?: Route): Route {
  const standing = (host: string): Standing => standings[host] ?? 'able'
  return routeOf({ storage: 'san-a', lun: 'csv1', owner, hosts: HOSTS, standing }, before)
}

describe('a standby route', () => {
  it('begins with the volume’s owner and has everybody once', () => {
    const first = route({}, 'host-c')
    expect(first.peers[0]).toBe('host-c')
    expect([...first.peers].sort()).toEqual(HOSTS)
    expect(first.able).toBe(4)
  })

  it('does not change while nothing does, nor for a host that is not heard for a while', () => {
    const first = route({}, 'host-c')
    expect(route({}, 'host-c', first)).toBe(first)
    expect(route({ 'host-a': 'unknown', 'host-c': 'unknown' }, 'host-c', first)).toBe(first)
  })

  it('has those without a path of their own at its end, and takes them back behind the others', () => {
    const first = route({}, 'host-c')
    const lost = route({ 'host-c': 'unable' }, 'host-c', first)
    expect(lost.peers).toEqual([...first.peers.filter(host => host !== 'host-c'), 'host-c'])
    expect(lost.able).toBe(3)
    // Not heard of it, it stays where it was put.
    expect(route({ 'host-c': 'unknown' }, 'host-c', lost)).toBe(lost)
    const other = first.peers[1]!
    const without = route({ [other]: 'unable' }, 'host-c', first)
    const back = route({}, 'host-c', without)
    expect(back.peers.at(-1)).toBe(other)
    expect(back.able).toBe(4)
  })

  it('moves a new owner to its front, and leaves the rest as it is', () => {
    const first = route({}, 'host-c')
    const next = route({}, 'host-a', first)
    expect(next.peers).toEqual(['host-a', ...first.peers.filter(host => host !== 'host-a')])
    expect(route({}, null, next).peers).toEqual(next.peers)
  })

  it('begins elsewhere for another LUN', () => {
    const starts = new Set(
      ['csv1', 'csv2', 'csv3', 'csv4', 'csv5', 'csv6'].map(
        lun => routeOf({ storage: 's', lun, owner: null, hosts: HOSTS, standing: () => 'able' }, undefined).peers[0],
      ),
    )
    expect(starts.size).toBeGreaterThan(1)
  })
})

describe('routes in the map', () => {
  it('are there ahead of need, survive the coordinator’s restart, and change when a host has lost its paths for long', () => {
    const bench = Bench.cluster()
    const routes = () => mapOf(bench.state).routes
    const owner = bench.state.volumes.get('csv1')!.owner!.host
    expect(routes()).toMatchObject([{ storage: 'san-a', lun: 'csv1' }])
    expect(routes()[0]?.peers[0]).toBe(owner)
    const version = bench.state.mapVersion
    bench.round(20)
    expect(bench.state.mapVersion).toBe(version)
    bench.hosts.get(owner)!.storages = []
    bench.round(1)
    expect(bench.state.mapVersion).toBe(version)
    bench.round(6)
    expect(routes()[0]?.peers.at(-1)).toBe(owner)
    bench.restart()
    bench.input({ kind: 'tick' })
    expect([...(routes()[0]?.peers ?? [])].sort()).toEqual(['host-a', 'host-b', 'host-c'])
  })
})

describe('a fabric that an operator takes from a host', () => {
  const host = (bench: Bench, name: string) => mapOf(bench.state).hosts.find(each => each.name === name)

  it('is in the map until it is given back, over a restart too', () => {
    const bench = Bench.cluster()
    expect(bench.command({ kind: 'path-disable', host: 'host-a', fabric: 'fabric-1' }).body).toEqual({
      ...{ host: 'host-a', disabled: ['fabric-1'] },
    })
    expect(host(bench, 'host-a')?.disabled).toEqual(['fabric-1'])
    bench.restart()
    expect(host(bench, 'host-a')?.disabled).toEqual(['fabric-1'])
    bench.command({ kind: 'path-enable', host: 'host-a', fabric: 'fabric-1' })
    expect(host(bench, 'host-a')?.disabled).toEqual([])
  })

  it.each([
    [{ host: 'nobody', fabric: 'fabric-0' }, 'unknown-host'],
    [{ host: 'host-a', fabric: 'fabric-7' }, 'unknown-fabric'],
  ])('is refused for %j', (what, code) => {
    const bench = Bench.cluster()
    expect(bench.command({ kind: 'path-disable', ...what }).refused).toBe(code)
    expect(bench.command({ kind: 'path-enable', ...what }).refused).toBe(code)
  })

  it('is refused twice, and where nothing else leads to a volume that is open there, unless forced', () => {
    const bench = Bench.cluster()
    const disable = (fabric: string, force = false) =>
      bench.command({ kind: 'path-disable', host: 'host-a', fabric, force })
    expect(bench.command({ kind: 'path-enable', host: 'host-a', fabric: 'fabric-0' }).refused).toBe('not-disabled')
    const live = bench.state.liveHosts.get('host-a')!
    const path = { why: '', sinceMs: 0, latencyMs: null, queue: 0, requests: 0, errors: 0, via: null }
    live.paths = ['fabric-0', 'fabric-1'].map(f => ({ storage: 'san-a', path: `${f}/san-a`, state: 'up', ...path }))
    live.access = [{ volume: 'csv1', storage: 'san-a', state: 'direct', via: null, why: '', sinceMs: 0 }]
    for (const name of ['host-b', 'host-c']) {
      bench.hosts.get(name)!.storages = []
      bench.state.liveHosts.get(name)!.unreachedSince.set('san-a', 0)
      bench.state.liveHosts.get(name)!.reachableStorages = []
    }
    bench.input({ kind: 'tick' })
    expect(disable('fabric-0').body).toBeDefined()
    expect(disable('fabric-0').refused).toBe('already-disabled')
    expect(disable('fabric-1')).toMatchObject({ refused: 'no-other-path' })
    expect(disable('fabric-1', true).body).toBeDefined()
  })

  it('and how paths are used is a volume’s own', () => {
    const bench = Bench.cluster()
    const policy = (volume: string, wanted: string) => bench.command({ kind: 'path-policy', volume, policy: wanted })
    expect(policy('csv9', 'fixed').refused).toBe('unknown-volume')
    expect(policy('csv1', 'random').refused).toBe('bad-policy')
    expect(mapOf(bench.state).volumes[0]?.pathPolicy).toBe('least-queue')
    expect(policy('csv1', 'fixed').body).toEqual({ volume: 'csv1', pathPolicy: 'fixed' })
    expect(mapOf(bench.state).volumes[0]?.pathPolicy).toBe('fixed')
  })
})

describe('how hosts get at volumes', () => {
  it('goes on record when it changes, but not that it is direct from the start', () => {
    const bench = Bench.cluster()
    const told = () => bench.kindsTraced().filter(kind => /^volume\.(direct|redirected|paused)$/.test(kind))
    const access = { volume: 'csv1', storage: 'san-a', via: null, why: '', sinceMs: 0 } as const
    const say = (state: 'direct' | 'redirected' | 'paused', via: string | null = null) => {
      bench.hosts.get('host-a')!.access = [{ ...access, state, via }]
      bench.beat('host-a')
    }
    say('direct')
    say('direct')
    expect(told()).toEqual([])
    say('redirected', 'host-b')
    say('redirected', 'host-b')
    say('redirected', 'host-c')
    say('direct')
    expect(told()).toEqual(['volume.redirected', 'volume.redirected', 'volume.direct'])
  })
})
