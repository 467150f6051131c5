// A cluster with one VM at work on one volume, whose every record the monitors judge: for scenarios of failover.

import { createMonitors, type MonitorSet } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect } from 'vitest'
import { watchLegs } from '../../packages/cli/src/simulation/mirror-witness.ts'
import { createVm, extentAt, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume } from './support.ts'

export const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 60_000

export interface JudgedStorages {
  readonly storages?: readonly string[]
  /** NBD servers beside them. */
  readonly external?: readonly string[]
  readonly settings?: Partial<Settings>
}

export class JudgedCluster {
  readonly world: World
  readonly monitors: MonitorSet
  readonly records: TraceRecord[] = []

  constructor(seed: string, { storages = ['san-a'], external = [], settings: changed = {} }: JudgedStorages = {}) {
    this.world = new World({
      ...{ seed, hosts: HOSTS, storages, external, settings: changed, hostMemoryBytes: 4 * GIB },
    })
    const { sim, settings } = this.world
    this.monitors = createMonitors({ fen2: { driftFraction: settings.drift }, csv2: { extentAt } })
    watchLegs(this.world)
    sim.onRecord(record => {
      this.monitors.observe(record, sim.now)
      if (record.level === 'decision' || record.kind === 'guest.acknowledged') this.records.push(record)
    })
  }

  /** A VM at work on a volume of these legs, whose owner is another host. */
  async start(...storages: string[]): Promise<this> {
    await startWithVolume(this.world, storages)
    this.world.command(
      createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 50, scratchPerSecond: 20 } }),
    )
    expect(await this.until(() => this.placed?.phase === 'running')).toBe(true)
    const owner = HOSTS.find(name => name !== this.host)!
    if (this.owner !== owner) this.world.command({ kind: 'volume-own', name: 'csv1', host: owner })
    expect(await this.until(() => this.owner === owner)).toBe(true)
    await this.world.sim.runFor(2_000)
    expect(this.entries(this.now - 1_000)).toBeGreaterThan(0)
    return this
  }

  get placed() {
    return this.world.coordinator?.state.vms.get('vm-1')?.placement ?? null
  }

  get host(): string {
    return this.placed?.host ?? ''
  }

  get owner(): string | null {
    return this.world.coordinator?.state.volumes.get('csv1')?.owner?.host ?? null
  }

  get roles(): string[] {
    return (this.world.coordinator?.state.volumes.get('csv1')?.legs ?? []).map(
      ({ storage, role }) => `${storage} ${role}`,
    )
  }

  get now(): number {
    return this.world.sim.now
  }

  until(predicate: () => boolean): Promise<boolean> {
    return this.world.sim.runUntil(predicate, SETTLE_MS)
  }

  /** The VM is at work at a later placement epoch than this. */
  startedAfter(epoch: number): Promise<boolean> {
    return this.until(() => (this.placed?.epoch ?? 0) > epoch && this.placed?.phase === 'running')
  }

  entries(from: number): number {
    return this.records.filter(r => r.kind === 'guest.acknowledged' && r.at >= from).length
  }

  /** It goes on, and no rule was broken until now. */
  async isWell(): Promise<void> {
    const from = this.now
    expect(await this.until(() => this.entries(from) > 20)).toBe(true)
    expect(this.monitors.violations.map(({ rule, message }) => `${rule}: ${message}`)).toEqual([])
    expect(this.monitors.judged.get('VM2')).toBeGreaterThan(0)
  }
}
