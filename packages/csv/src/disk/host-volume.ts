// A volume as one host uses it: its geometry, the mirror of its legs, the host's intent log, the copying to a leg that is
// catching up, and the way to the owner. All of the host's disks on the volume share it.

import { type BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import type { ScrubFinding, ScrubOptions } from '@stellwerk/block/mirror/scrub.ts'
import type { HostView } from '@stellwerk/protocol/messages/volume.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Intent } from '../format/slot.ts'
import { unreadableText } from '../mirror/copy-range.ts'
import { HostResync, type ResyncDisk, type ResyncPace } from '../mirror/host-resync.ts'
import { catchingLegs, missingLegs, oneLeg, type VolumeGeneration } from '../mirror/leg-state.ts'
import { type StaleLog, staleLogThrough } from '../mirror/stale-log.ts'
import { legBehind } from '../owner/owner-legs.ts'
import type { OwnerCall } from '../owner/request.ts'
import type { CsvDisk } from './csv-disk.ts'
import { IntentLog } from './intent-log.ts'

/** What a mirror of legs can do beyond being a device. */
export interface VolumeMirror {
  /** Makes a range equal on every leg that is written to, with the range to itself. Gives the blocks that no leg in sync can read. */
  copy(offset: number, length: number, mayWrite: () => boolean): Promise<readonly number[]>
  /** Compares a range on the legs in sync, with the range to itself. */
  scrub(offset: number, length: number, options: ScrubOptions): Promise<ScrubFinding[]>
}

export interface HostVolumeOptions {
  readonly volume: string
  readonly host: string
  readonly hostEpoch: number
  /** Over the host's own connections, not the owner's. */
  readonly device: BlockDevice
  /** Absent: one leg, for good. */
  readonly mirror?: VolumeMirror
  /** Asked when the intent log is opened; later ones are told by `follow`. */
  readonly generation?: () => VolumeGeneration
  readonly pace?: ResyncPace
  readonly owner: OwnerCall
  /** The slot the host is to have, if it has none yet. */
  readonly slot?: number
  readonly env: Pick<Environment, 'clock' | 'timers' | 'trace'>
}

export class HostVolume {
  readonly options: HostVolumeOptions
  readonly view: HostView
  readonly intent: IntentLog
  /** Its disks that this host has, by id: those that a barrier can be asked of. */
  readonly disks = new Map<string, CsvDisk>()
  readonly resync: HostResync
  #generation: VolumeGeneration
  #waiters: { readonly number: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = []
  #dropped: StellwerkError | null = null

  private constructor(options: HostVolumeOptions, view: HostView, intent: IntentLog, generation: VolumeGeneration) {
    this.options = options
    this.view = view
    this.intent = intent
    this.#generation = generation
    this.resync = new HostResync({
      volume: options.volume,
      host: options.host,
      regionBytes: view.regionBytes,
      owner: options.owner,
      copy: (offset, length, mayWrite) => options.mirror?.copy(offset, length, mayWrite) ?? Promise.resolve([]),
      env: options.env,
      ...(options.pace === undefined ? {} : { pace: options.pace }),
    })
    this.resync.follow(generation, new Set())
  }

  /** Gets the host's slot from the owner, and recovers what an earlier incarnation of this host left in it. */
  static async open(options: HostVolumeOptions): Promise<HostVolume> {
    const { volume, host, hostEpoch, device, owner, env, mirror } = options
    const view = await owner('volume.open-host', { volume, host, hostEpoch, slot: options.slot ?? null })
    const end = view.dataOffset + view.extentCount * view.extentBytes
    if (end > device.size) {
      throw new StellwerkError('volume-truncated', `the volume needs ${end} bytes, the LUN has ${device.size}`, {
        where: volume,
        hint: 'the LUN is smaller than when it was formatted: restore its size',
      })
    }
    const { volumeId, slotOffset, regionBytes, regionCount } = view
    const stale = staleLogThrough(device, { volumeId, slotOffset, regionCount })
    const generation = options.generation?.() ?? oneLeg()
    const current = (): VolumeGeneration => options.generation?.() ?? oneLeg()
    const copy = async (region: number): Promise<readonly number[]> => {
      const { number } = current()
      const unreadable = (await mirror?.copy(region * regionBytes, regionBytes, () => true)) ?? []
      // With a leg lost meanwhile there was nothing to make equal, and that leg has not got it.
      if (current().number !== number) throw new BlockError('EIO', 'none', 'the legs have changed', { retryable: true })
      return unreadable
    }
    const equalize = async (region: number): Promise<void> => {
      const unreadable = await copy(region)
      // It may be read again, and be another on each leg: its mark stays.
      if (unreadable.length > 0) throw new BlockError('EIO', 'none', unreadableText(unreadable))
    }
    let opened: HostVolume | null = null
    const intent = await IntentLog.open(
      {
        device,
        volumeId,
        slotOffset,
        timers: env.timers,
        stale,
        generation,
        ...(mirror === undefined ? {} : { equalize }),
        holds: region => opened !== null && [...opened.disks.values()].some(disk => disk.covers()(region)),
      },
      async found => {
        // A leg may be lost while what was found is made equal, or is being read: then it is written down for that one.
        for (let inForce = current(); ; inForce = current()) {
          const error = await recoverOwn(options, inForce, stale, found, copy).then(
            () => null,
            (why: unknown) => why,
          )
          if (current().number !== inForce.number) continue
          if (error !== null) throw error
          return
        }
      },
    )
    opened = new HostVolume(options, view, intent, generation)
    const now = options.generation?.() ?? generation
    // It may have moved on while the slot was read and written.
    if (now.number > generation.number) opened.follow(now)
    return opened
  }

  get generation(): VolumeGeneration {
    return this.#generation
  }

  /** The mirror serves in this generation now, or more is known of it. Before anything that was held is acknowledged. */
  follow(generation: VolumeGeneration): void {
    const same = generation.number === this.#generation.number
    this.#generation = generation
    const marked = this.intent.follow(generation)
    if (!same) this.resync.follow(generation, marked)
    for (const waiter of this.#waiters.splice(0)) {
      if (waiter.number <= generation.number) waiter.resolve()
      else this.#waiters.push(waiter)
    }
  }

  /** Resolves when the mirror serves in this generation or a later one: what an owner of it gave out may be used then. */
  reached(number: number): Promise<void> {
    if (this.#dropped !== null) return Promise.reject(this.#dropped)
    if (this.#generation.number >= number) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiters.push({ number, resolve, reject }))
  }

  added(disk: ResyncDisk): void {
    this.resync.add(disk)
  }

  /** Resolves when nothing of it is being copied any more. */
  removed(disk: ResyncDisk): Promise<void> {
    return this.resync.remove(disk)
  }

  /** After its disks are closed. The device stays open: it is its opener's. */
  async close(): Promise<void> {
    this.drop('closed')
    await this.intent.close()
  }

  /** Why nothing of it goes on; null: it is open. */
  get dropped(): StellwerkError | null {
    return this.#dropped
  }

  /** Ends what goes on in the background. Idempotent. */
  drop(why: string): void {
    this.#dropped ??= new StellwerkError('volume-dropped', `volume "${this.options.volume}" is ${why}`, {})
    this.resync.stop()
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#dropped)
  }
}

/** What an earlier opening of this host left marked is made equal, or written down for a leg that is away. */
async function recoverOwn(
  { volume, host }: HostVolumeOptions,
  generation: VolumeGeneration,
  stale: StaleLog,
  found: Intent,
  copy: (region: number) => Promise<readonly number[]>,
): Promise<void> {
  if (generation.legs.length < 2) return
  if (found.damagedSectors.length > 0) {
    throw new StellwerkError('slot-damaged', `what ${host} marked on volume "${volume}" does not check out`, {
      where: `${volume} slot of ${host}`,
      hint: `fence the host: stellwerk host fence ${host}; the owner then makes all that it held equal`,
    })
  }
  const missing = missingLegs(generation)[0]
  if (missing !== undefined) {
    if (typeof missing.lastInSync !== 'number') {
      throw sinceUnknown()
    }
    await stale.mark({ index: missing.index, lastInSync: missing.lastInSync }, found.regions)
  }
  if (generation.legs.filter(leg => leg.role !== 'stale').length < 2) return
  const missed: number[] = []
  for (const region of found.regions) {
    const unreadable = await copy(region)
    if (unreadable.length === 0) continue
    if (catchingLegs(generation).length === 0) throw new BlockError('EIO', 'none', unreadableText(unreadable))
    missed.push(region)
  }
  if (missed.length === 0) return
  if (catchingLegs(generation).some(leg => leg.lastInSync === 'unknown')) throw sinceUnknown()
  const behind = legBehind(generation)
  // Of one that lacks everything nothing need be written down.
  if (behind !== null) await stale.mark(behind, missed)
}

function sinceUnknown(): BlockError {
  return new BlockError('EIO', 'none', 'it is not known yet since when a leg is stale', { retryable: true })
}
