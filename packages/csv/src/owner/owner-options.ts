// What a volume's owner is opened with.

import type { Environment } from '@stellwerk/runtime/environment.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Leg } from '../format/device-io.ts'
import type { MetadataRanges } from '../format/layout.ts'
import type { Expected } from '../format/superblock.ts'
import type { VolumeGeneration } from '../mirror/leg-state.ts'
import type { ScrubHosts } from '../mirror/owner-scrub.ts'
import type { DiskHosts } from './host-effects.ts'

export interface VolumeOwnerOptions {
  /**
   * One device for each leg that the generation writes to, over connections that name `ownerEpoch`: the storage has
   * drained the predecessor's.
   */
  readonly legs: readonly Leg[]
  /** What each leg is; absent: all are in sync, for good. The owner ends with it: another generation, another owner. */
  readonly generation?: VolumeGeneration
  /** Of what the owner copies by itself to a leg that catches up. */
  readonly resyncBytesPerSecond?: () => number
  /** The volume's name, for records and errors. */
  readonly volume: string
  readonly expected?: Expected
  readonly ownerEpoch: number
  /** What the storage knows: an owner of this epoch had its record durable. A journal that ends before it is refused. */
  readonly leastOwnerEpoch?: number
  /**
   * What hosts have marked in their slots is of a time that has not been, and nobody is at work: it is taken away before anything is
   * attached. A host that opened the volume only later would make equal what another writes.
   */
  readonly emptySlots?: boolean
  readonly env: Pick<Environment, 'trace' | 'log'> & Partial<Pick<Environment, 'timers' | 'clock'>>
  /** The way to the hosts that have disks. Without it a disk in use has no snapshots. */
  readonly hosts?: DiskHosts
  /** The way to them for a scrub. Without it what they hold is not compared. */
  readonly scrubHosts?: ScrubHosts
  /** Tells the storage subsystems which ranges are metadata and whose the slots are; a slot is not given out before. */
  readonly onRanges?: (ranges: MetadataRanges) => Promise<void>
  /**
   * An in-sync leg's metadata is damaged and another's is whole: `open` rejects with `leg-damaged`, and goes on in a generation
   * in which the damaged one is stale.
   */
  readonly onLegDamaged?: (leg: string, why: string) => void
  /** Called once if the owner must end by itself: deposed, or a leg failed. Requests are refused from then on. */
  readonly onEnd?: (error: StellwerkError) => void
}
