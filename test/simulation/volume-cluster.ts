// A cluster with one volume and two guests at work on it, for scenarios about what its storages' media do.

import { volumeView } from '@stellwerk/coordinator/view/volumes.ts'
import { extentAddress, type Layout, planLayout } from '@stellwerk/csv/format/layout.ts'
import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect } from 'vitest'
import { lunFile } from '../../packages/cli/src/simulation/durability.ts'
import { type Answer, VOLUME_BYTES, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume } from './support.ts'

export const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000
export const LAYOUT: Layout = planLayout({ volumeId: 'v1', clusterId: 'sim', volumeBytes: VOLUME_BYTES })

export class Cluster {
  readonly world: World
  readonly records: TraceRecord[] = []
  /** Extent → disk, as granted. */
  readonly extents = new Map<string, number>()

  constructor(seed: string, storages = ['san-a', 'san-b']) {
    this.world = new World({ seed, hosts: HOSTS, storages, settings: {}, hostMemoryBytes: 4 * GIB })
    this.world.sim.onRecord(record => {
      if (record.level === 'decision' || record.kind === 'mirror.copy') this.records.push(record)
      if (record.kind !== 'extent.granted') return
      const { extent, offset } = record.body as { extent: number; offset: number }
      this.extents.set(`${record.disk}/${offset}`, extent)
    })
  }

  get state() {
    return this.world.coordinator!.state
  }

  get view() {
    return volumeView(this.state, this.state.volumes.get('csv1')!, null, this.world.sim.now)
  }

  async until(what: () => boolean, ms = SETTLE_MS): Promise<void> {
    expect(await this.world.sim.runUntil(what, ms)).toBe(true)
  }

  async start(): Promise<this> {
    const { world } = this
    await startWithVolume(world, world.options.storages)
    for (const name of ['vm-1', 'vm-2']) {
      world.command({
        ...{ kind: 'vm-create', name, start: true, priority: 0, host: null },
        spec: {
          hypervisor: 'model',
          guest: 'ledger',
          memoryBytes: 256 * MIB,
          parameters: { writesPerSecond: 50, scratchPerSecond: 20 },
        },
        disks: [{ volume: 'csv1', sizeBytes: 8 * MIB }],
      })
    }
    await this.until(() => ['vm-1', 'vm-2'].every(name => this.state.vms.get(name)?.placement?.phase === 'running'))
    await world.sim.runFor(3_000)
    return this
  }

  /** Of a disk, where its first extent lies; far behind what its guest writes. */
  quiet(disk: string): number {
    const extent = this.extents.get(`${disk}/0`)
    expect(extent).toBeDefined()
    return extentAddress(LAYOUT, extent!) + 3 * MIB
  }

  place(storage: string, offset: number) {
    return { storage, lun: 'csv1', offset }
  }

  byte(storage: string, offset: number): number {
    return lunFile(this.world, storage, 'csv1')!.read(offset, 1)[0]!
  }

  async ask(kind: string, body: object): Promise<Answer> {
    let answer: Answer | null = null
    this.world.askOwner('csv1', kind, { volume: 'csv1', ...body }, given => {
      answer = given
    })
    await this.until(() => answer !== null)
    return answer!
  }

  async command(leg: string | null = null, name = 'csv1'): Promise<string> {
    let code: string | null = null
    this.world.command({ kind: 'volume-scrub', name, leg }, result => {
      code = result.ok ? 'ok' : result.code
    })
    await this.until(() => code !== null)
    return code!
  }

  async report(): Promise<ScrubReport> {
    return (await this.ask('volume.scrub-report', {})).reply as ScrubReport
  }

  async scrub(goodLeg: string | null = null): Promise<ScrubReport> {
    expect(await this.command(goodLeg)).toBe('ok')
    expect((await this.ask('volume.scrub', { goodLeg })).ok).toBe(true)
    for (let i = 0; i < 300; i += 1) {
      const report = await this.report()
      if (report?.state !== 'running') {
        expect(report).toMatchObject({ state: 'done', why: null })
        // A beat later the coordinator has heard it.
        await this.world.sim.runFor(2_000)
        return report
      }
      await this.world.sim.runFor(500)
    }
    throw new Error('the scrub does not end')
  }

  placements(): string {
    return JSON.stringify(
      [...this.state.vms.values()].map(({ name, epoch, placement }) => [name, epoch, placement?.host]),
    )
  }
}
