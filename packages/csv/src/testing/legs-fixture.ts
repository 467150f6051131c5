// Volumes of one leg or two for tests of what becomes of damaged metadata: bytes that have changed, blocks that cannot be read.

import { type BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import type { Leg } from '../format/device-io.ts'
import { formatVolume } from '../format/format-volume.ts'
import { BLOCK_BYTES, type Layout } from '../format/layout.ts'
import type { LegState, VolumeGeneration } from '../mirror/leg-state.ts'
import type { Loaded } from '../owner/load.ts'
import { loadLeg } from '../owner/load.ts'
import type { VolumeOwnerOptions } from '../owner/owner-options.ts'
import { VolumeOwner } from '../owner/volume-owner.ts'
import { CrashDevice, Platter } from './crash-device.ts'
import { quietLog, Records, SMALL } from './fixture.ts'

const SIZE = 8 * 1024 * 1024
const NAMES = ['san-a', 'san-b'] as const

export class LegsVolume {
  readonly layout: Layout
  readonly platters: readonly Platter[]
  /** Of each leg: the addresses of blocks that cannot be read until they are written. */
  readonly latent: readonly Set<number>[]
  /** Legs that an owner said were damaged. */
  readonly damaged: { leg: string; why: string }[] = []
  generation: VolumeGeneration

  private constructor(layout: Layout, platters: readonly Platter[]) {
    this.layout = layout
    this.platters = platters
    this.latent = platters.map(() => new Set<number>())
    this.generation = this.inRoles('in-sync', 'in-sync')
  }

  static async make(legs: 1 | 2, options: Partial<typeof SMALL> = {}): Promise<LegsVolume> {
    const platters = NAMES.slice(0, legs).map(() => new Platter(SIZE))
    const named = platters.map((platter, i) => ({ id: NAMES[i]!, device: new CrashDevice(platter) }))
    return new LegsVolume(await formatVolume({ ...SMALL, ...options, legs: named }), platters)
  }

  inRoles(...roles: LegState['role'][]): VolumeGeneration {
    const legs = this.platters.map((_, index) => ({ id: NAMES[index]!, index, role: roles[index]!, lastInSync: 0 }))
    return { number: 1, legs }
  }

  leg(index = 0): Leg & { readonly device: CrashDevice } {
    const device = new CrashDevice(this.platters[index]!)
    const latent = this.latent[index]!
    device.refuse = (op, offset, length) => {
      for (let at = offset - (offset % BLOCK_BYTES); at < offset + length; at += BLOCK_BYTES) {
        if (op !== 'read') latent.delete(at)
        else if (latent.has(at)) return new BlockError('EIO', 'none', 'a sector that cannot be read')
      }
      return null
    }
    return { id: NAMES[index]!, device }
  }

  legs(): (Leg & { readonly device: BlockDevice })[] {
    return this.platters.map((_, index) => this.leg(index))
  }

  open(ownerEpoch: number, options: Partial<VolumeOwnerOptions> = {}): Promise<VolumeOwner> {
    return VolumeOwner.open({
      legs: this.legs(),
      generation: this.generation,
      volume: 'csv1',
      expected: { volumeId: this.layout.volumeId },
      ownerEpoch,
      env: { trace: new Records(), log: quietLog },
      onLegDamaged: (leg, why) => this.damaged.push({ leg, why }),
      ...options,
    })
  }

  loaded(index = 0): Promise<Loaded> {
    return loadLeg(this.leg(index), {})
  }

  flip(index: number, address: number): void {
    const platter = this.platters[index]!
    platter.write(address, Uint8Array.of(platter.read(address, 1)[0]! ^ 0x10))
  }

  /** Are these bytes the same on all legs? */
  isEqual(start: number, end: number): boolean {
    const [first, ...others] = this.platters.map(platter => platter.read(start, end - start))
    return others.every(other => Buffer.compare(first!, other) === 0)
  }
}
