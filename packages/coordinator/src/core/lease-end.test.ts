// When every lease of a host that is gone is over, while the legs of its volume change (FEN2, VM2): a host runs on while the storages of
// all legs answer it that count in the generation of which it knows.

import { leaseWaitMs } from '@stellwerk/protocol/settings.ts'
import { expect, it } from 'vitest'
import { Bench } from './testing.ts'

const VOLUME = 'csv1'

class Mirrored {
  readonly bench = new Bench()
  readonly host: string
  #goneAt = Number.POSITIVE_INFINITY

  constructor() {
    const { bench } = this
    for (const host of ['host-a', 'host-b', 'host-c']) bench.join(host)
    bench.round(2)
    bench.command({ kind: 'volume-create', name: VOLUME, id: 'v1', sizeBytes: 2 ** 30, storages: ['san-a', 'san-b'] })
    bench.round(6)
    bench.createVm('web')
    bench.round(6)
    expect(bench.placement('web')?.phase).toBe('running')
    this.host = bench.placement('web')!.host
    bench.lastSeenMs = host => (host === this.host ? Math.max(0, bench.now - this.#goneAt) : 0)
  }

  /** Silent to all from now on, storages included. */
  gone(): void {
    this.#goneAt = this.bench.now
    this.bench.hosts.get(this.host)!.beating = false
  }

  lose(leg: string): void {
    const { bench } = this
    const { generation, owner } = bench.state.volumes.get(VOLUME)!
    const host = [...bench.hosts.keys()].find(name => name !== this.host) ?? owner?.host ?? ''
    const hostEpoch = bench.state.hosts.get(host)!.epoch
    const report = { host, hostEpoch, volume: VOLUME, generation, leg, why: 'it does not answer' }
    bench.ask(request => ({ kind: 'leg-lost', request, report }))
  }

  resync(): void {
    this.bench.round(8)
    this.bench.sync = { done: true, disks: 0, synced: 0 }
    this.bench.round(12)
    expect(this.roles).toEqual(['in-sync', 'in-sync'])
  }

  get roles(): string[] {
    return this.bench.state.volumes.get(VOLUME)!.legs.map(({ role }) => role)
  }

  /** From when it was gone. */
  lostAfterMs(): number {
    const { bench } = this
    for (let rounds = 0; bench.placement('web')?.host === this.host && rounds < 200; rounds += 1) bench.round()
    return bench.now - this.#goneAt
  }
}

it('a leg that is lost meanwhile, one of those by which the host runs, makes nobody wait for longer', () => {
  const [quiet, changed] = [new Mirrored(), new Mirrored()]
  quiet.gone()
  changed.gone()
  changed.bench.round(4)
  changed.lose('leg-1')
  expect(changed.roles).toEqual(['in-sync', 'stale'])
  expect(changed.lostAfterMs()).toBe(quiet.lostAfterMs())
})

it('nor does one that is back in sync', () => {
  const [quiet, changed] = [new Mirrored(), new Mirrored()]
  for (const each of [quiet, changed]) {
    each.lose('leg-1')
    each.resync()
  }
  quiet.gone()
  changed.lose('leg-1')
  changed.bench.sync = { done: false, disks: 1, synced: 0 }
  changed.bench.round(8)
  expect(changed.roles).toEqual(['in-sync', 'syncing'])
  changed.gone()
  changed.bench.round(4)
  changed.bench.sync = { done: true, disks: 0, synced: 0 }
  expect(changed.lostAfterMs()).toBe(quiet.lostAfterMs())
  expect(changed.roles).toEqual(['in-sync', 'in-sync'])
})

it('but where it may run by other legs alone, their storages have to have been raised above that first', () => {
  const cluster = new Mirrored()
  const { bench } = cluster
  cluster.lose('leg-1')
  cluster.resync()
  cluster.gone()
  bench.round(4)
  cluster.lose('leg-0')
  expect(cluster.roles).toEqual(['stale', 'in-sync'])
  // By leg-0 alone, as before the resync, of which it may not have heard.
  const raisedAt = bench.now
  cluster.lostAfterMs()
  expect(bench.now - raisedAt).toBeGreaterThanOrEqual(leaseWaitMs(bench.state.cluster.settings))
})

it('and where a generation that a restarted coordinator found was told only by it, whoever owned the volume until then', () => {
  const cluster = new Mirrored()
  const { bench, host } = cluster
  const legs = () => bench.state.volumes.get(VOLUME)!.legs
  cluster.lose('leg-1')
  bench.round(1)
  let away = true
  bench.holdBack = key => away && (key.endsWith('/san-a') || key.startsWith('generation/')) && !key.startsWith('run/')
  // Begun, and told to nobody.
  while (legs()[1]!.role !== 'syncing') bench.round()
  bench.hosts.get(host)!.beating = false
  // It runs by san-a alone, until that is back for the coordinator and refuses it.
  bench.lastSeenMs = (name, storage) => (name === host && storage !== 'san-a' ? 100_000 : 0)
  bench.ownersSay = { state: 'opening' }
  bench.restart()
  bench.round(120)
  expect(bench.placement('web')?.host).toBe(host)
  away = false
  const refusedAt = bench.now
  bench.sync = { done: true, disks: 0, synced: 0 }
  for (let taken = false; bench.placement('web')?.host === host && bench.now < refusedAt + 60_000; ) {
    bench.round()
    bench.ownersSay = { state: 'serving' }
    if (taken || legs().some(({ role }) => role !== 'in-sync')) continue
    bench.command({ kind: 'volume-unmirror', name: VOLUME, leg: 'san-a' })
    taken = true
  }
  expect(bench.placement('web')?.host).not.toBe(host)
  expect(bench.now - refusedAt).toBeGreaterThanOrEqual(leaseWaitMs(bench.state.cluster.settings))
})

it('and where a restarted coordinator does not know what counted before it', () => {
  const cluster = new Mirrored()
  cluster.gone()
  cluster.bench.holdBack = key => key.startsWith('generation/')
  cluster.lose('leg-1')
  cluster.bench.restart()
  cluster.bench.round(8)
  cluster.bench.holdBack = () => false
  cluster.bench.round(2)
  const raisedAt = cluster.bench.now
  cluster.lostAfterMs()
  expect(cluster.bench.now - raisedAt).toBeGreaterThan(leaseWaitMs(cluster.bench.state.cluster.settings) - 2_000)
})
