// Redirection over the heartbeat link in a whole simulated cluster: how soon it begins, who carries, when it ends.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const FABRICS = ['fabric-0', 'fabric-1'] as const
const SETTLE_MS = 20_000

class Cluster {
  readonly world: World
  readonly records: TraceRecord[] = []

  constructor(seed: string) {
    this.world = new World({
      ...{ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB },
    })
    this.world.sim.onRecord(record => {
      if (record.level === 'decision' || record.kind === 'guest.acknowledged') this.records.push(record)
    })
  }

  async start(): Promise<this> {
    const { world } = this
    await startWithVolume(world)
    world.command({
      ...{ kind: 'vm-create', name: 'vm-1', start: true, priority: 0, host: null },
      spec: {
        hypervisor: 'model',
        guest: 'ledger',
        memoryBytes: 256 * MIB,
        parameters: { writesPerSecond: 50, scratchPerSecond: 20 },
      },
      disks: [{ volume: 'csv1', sizeBytes: 8 * MIB }],
    })
    const placement = () => world.coordinator?.state.vms.get('vm-1')?.placement
    expect(await world.sim.runUntil(() => placement()?.phase === 'running', SETTLE_MS)).toBe(true)
    await world.sim.runFor(2_000)
    return this
  }

  /** Where the VM runs; the volume's owner is elsewhere. */
  async host(): Promise<string> {
    const state = this.world.coordinator!.state
    const host = state.vms.get('vm-1')!.placement!.host
    const other = HOSTS.find(name => name !== host)!
    if (state.volumes.get('csv1')!.owner?.host === host) {
      this.world.command({ kind: 'volume-own', name: 'csv1', host: other })
      await this.world.sim.runFor(3_000)
    }
    return host
  }

  get owner(): string {
    return this.world.coordinator!.state.volumes.get('csv1')!.owner!.host
  }

  /** Records of this kind of the host as a host (not as an owner), from `from` on. */
  of(kind: string, host: string, from = 0): { at: number; via: string | null }[] {
    return this.records
      .filter(r => r.kind === kind && r.host === host && r.at >= from)
      .filter(r => (r.body as { owner: boolean }).owner === false)
      .map(r => ({ at: r.at, via: (r.body as { via: string | null }).via }))
  }

  entries(from: number): number {
    return this.records.filter(r => r.kind === 'guest.acknowledged' && r.at >= from).length
  }

  access(host: string): string | undefined {
    return this.world.agent(host)?.access.find(({ volume }) => volume === 'csv1')?.state
  }
}

describe('redirection (RIO1, RIO2)', TIMEOUT, () => {
  it('begins within 100 ms of a pulled HBA over the volume’s owner, and ends when the direct path is trusted', async () => {
    const cluster = await new Cluster('redirect-reset').start()
    const { world } = cluster
    const host = await cluster.host()
    const at = world.sim.now
    const cut = world.sim.network.cut(host, 'san-a', { network: FABRICS })
    world.sim.network.reset({ from: host, to: 'san-a', bothWays: true, network: FABRICS })
    await world.sim.runFor(3_000)
    const [redirected] = cluster.of('path.redirected', host, at)
    expect(redirected?.via).toBe(cluster.owner)
    expect(redirected!.at - at).toBeLessThan(100)
    expect(cluster.access(host)).toBe('redirected')
    expect(cluster.entries(at)).toBeGreaterThan(50)
    cut.heal()
    const healed = world.sim.now
    await world.sim.runFor(6_000)
    const [direct] = cluster.of('path.direct', host, healed)
    // After three good probes, and not before.
    expect(direct!.at - healed).toBeGreaterThan(1_000)
    expect(cluster.access(host)).toBe('direct')
  })

  it('begins within the deadline and 200 ms of a black hole', async () => {
    const cluster = await new Cluster('redirect-black-hole').start()
    const { world } = cluster
    const host = await cluster.host()
    const at = world.sim.now
    world.sim.network.clog({ from: host, to: 'san-a', bothWays: true, network: FABRICS })
    await world.sim.runFor(world.settings.ioDeadlineMs + 200)
    expect(cluster.access(host)).toBe('redirected')
    const before = cluster.entries(at)
    await world.sim.runFor(1_000)
    expect(cluster.entries(at) - before).toBeGreaterThan(20)
  })

  it('needs no coordinator, and keeps the storage lease by the probes that the peer carries', async () => {
    const cluster = await new Cluster('redirect-alone').start()
    const { world } = cluster
    const host = await cluster.host()
    world.sim.host('coord').crash()
    await world.sim.runFor(1_000)
    const at = world.sim.now
    world.sim.network.cut(host, 'san-a', { network: FABRICS })
    world.sim.network.reset({ from: host, to: 'san-a', bothWays: true, network: FABRICS })
    await world.sim.runFor(10_000)
    const late = world.sim.now - 2_000
    expect(cluster.access(host)).toBe('redirected')
    expect(cluster.entries(late)).toBeGreaterThan(50)
    expect(cluster.records.filter(r => r.kind === 'vm.halt' && r.at >= at)).toEqual([])
  })

  it('goes on over another peer when the one that carries dies', async () => {
    const cluster = await new Cluster('redirect-peer-dies').start()
    const { world } = cluster
    const host = await cluster.host()
    const owner = cluster.owner
    world.sim.network.cut(host, 'san-a', { network: FABRICS })
    world.sim.network.reset({ from: host, to: 'san-a', bothWays: true, network: FABRICS })
    await world.sim.runFor(2_000)
    const at = world.sim.now
    world.sim.host(owner).process(`${owner}/agent`)?.kill()
    await world.sim.runFor(3_000)
    const last = cluster.of('path.redirected', host, at).at(-1)
    expect(last?.via).toBe(HOSTS.find(name => name !== host && name !== owner))
    expect(cluster.entries(world.sim.now - 1_000)).toBeGreaterThan(20)
  })

  it('is what an operator makes of it: with its fabrics disabled a host is redirected, and direct again after', async () => {
    const cluster = await new Cluster('redirect-by-hand').start()
    const { world } = cluster
    const host = await cluster.host()
    for (const fabric of FABRICS) world.command({ kind: 'path-disable', host, fabric })
    await world.sim.runFor(2_000)
    expect(cluster.access(host)).toBe('redirected')
    for (const fabric of FABRICS) world.command({ kind: 'path-enable', host, fabric })
    await world.sim.runFor(2_000)
    expect(cluster.access(host)).toBe('direct')
  })
})
