// A VM's disk as its host sees it: maps offsets to extents, reads and writes those directly, asks the owner only for
// what it has not got. One write inside one mapped and marked region is one request; the rest is in slow-path.ts.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Io,
  type Limits,
} from '@stellwerk/block/device.ts'
import type { ScrubFinding } from '@stellwerk/block/mirror/scrub.ts'
import type { DiskGrant } from '@stellwerk/protocol/messages/volume.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import type { ResyncDisk } from '../mirror/host-resync.ts'
import { askForDisk, type DiskClaim } from './ask-for-disk.ts'
import { diskError, interrupted, isStorageFull, mayStillLand, misfit, worse } from './disk-errors.ts'
import { DiskState } from './disk-state.ts'
import { ExtentDepartures } from './extent-departures.ts'
import { ExtentFrees } from './extent-frees.ts'
import { ExtentMap, type Handover, parseHandover } from './extent-map.ts'
import { extentQuestions } from './extent-questions.ts'
import { FullVolume } from './full-volume.ts'
import type { HostVolume } from './host-volume.ts'
import type { IntentBit } from './intent-log.ts'
import { IoTrace } from './io-trace.ts'
import { OwnerAsker } from './owner-asker.ts'
import { WriteRanges } from './ranges.ts'
import { RequestGate } from './request-gate.ts'
import { type ScrubPart, scrubPart } from './scrub-part.ts'
import { SlowPath } from './slow-path.ts'

export interface CsvDiskOptions extends DiskClaim {
  readonly volume: HostVolume
}

const FUA = { fua: true } as const
const MAX_REQUEST_BYTES = 32 * 1024 * 1024

export class CsvDisk implements BlockDevice, ResyncDisk {
  readonly limits: Limits
  readonly caps: Caps
  readonly departures: ExtentDepartures
  readonly #options: CsvDiskOptions
  readonly #device: BlockDevice
  readonly #map: ExtentMap
  readonly #ranges = new WriteRanges()
  readonly #gate = new RequestGate()
  readonly #asker: OwnerAsker
  readonly #full: FullVolume
  readonly #frees: ExtentFrees
  readonly #slow: SlowPath
  readonly #trace: IoTrace
  readonly #extentBytes: number
  readonly #regionBytes: number
  readonly #dataOffset: number
  readonly #minimum: number
  readonly #state = new DiskState()
  #size: number
  #closing: Promise<void> | null = null
  #drained = false

  private constructor(options: CsvDiskOptions, grant: DiskGrant) {
    const { volume } = options
    const { view } = volume
    const { device, env, host } = volume.options
    this.#options = { ...options, disk: grant.disk }
    this.#device = device
    this.#extentBytes = view.extentBytes
    this.#regionBytes = view.regionBytes
    this.#dataOffset = view.dataOffset
    this.#size = grant.sizeBytes
    this.#minimum = device.limits.minimum
    this.limits = { ...device.limits, maximum: Math.min(device.limits.maximum, MAX_REQUEST_BYTES) }
    this.caps = {
      readOnly: grant.readOnly,
      flush: true,
      fua: true,
      trim: true,
      zero: true,
      fastZero: device.caps.zero && device.caps.fastZero,
      blockStatus: true,
      multiConn: true,
    }
    this.#map = new ExtentMap(Math.ceil(grant.sizeBytes / view.extentBytes), grant.mapVersion)
    this.#map.add(grant.runs, grant.shared)
    this.departures = new ExtentDepartures(this.#map, view, volume.resync.of(this))
    this.#full = new FullVolume(env.timers, why => this.#state.setCritical(why))
    this.#asker = new OwnerAsker(volume.options.owner, env.timers, reason => {
      this.#full.ownerSaid(reason)
      this.#state.ownerAway(reason)
    })
    const instance = `${volume.options.hostEpoch}-${options.epoch}`
    this.#trace = new IoTrace(env.trace, { host, vm: options.vm, disk: grant.disk, instance })
    this.#frees = new ExtentFrees({
      map: this.#map,
      departures: this.departures,
      grace: () => this.#gate.grace(),
      clearMarks: extents => volume.intent.clear(region => extents.has(this.#extentOf(region))),
      free: runs => this.#asker.ask('volume.free', () => ({ ...this.holding(), runs }), 'disk-switching'),
      kept: error => this.#state.set('slow', `trimmed extents are kept: ${errorMessage(error)}`),
      refused: error => this.#fail(error),
    })
    const questions = extentQuestions({
      map: this.#map,
      departures: this.departures,
      asker: this.#asker,
      holding: () => this.holding(),
      grace: () => this.#gate.grace(),
      reached: generation => volume.reached(generation),
      failed: error => this.#fail(error),
    })
    this.#slow = new SlowPath({
      device,
      geometry: view,
      map: this.#map,
      ...questions,
      frees: this.#frees,
      departures: this.departures,
      ranges: this.#ranges,
      gate: this.#gate,
      intent: volume.intent,
      full: this.#full,
      env,
    })
    device.onState((state, reason) => this.#state.below(state, reason))
  }

  /** Asks the owner for the disk and its whole map. */
  static async attach(options: CsvDiskOptions): Promise<CsvDisk> {
    const { volume } = options
    const { grant, runs, shared } = await askForDisk(volume, options)
    const disk = new CsvDisk(options, grant)
    disk.#map.add(runs, shared)
    volume.disks.set(grant.disk, disk)
    volume.added(disk)
    return disk
  }

  /** Goes on with what a migration's source handed over, without the owner. Until it was `taken` it may be the source's again. */
  static async adopt(options: CsvDiskOptions, handover: Json): Promise<CsvDisk> {
    const given = parseHandover(handover, options.volume.view.volumeId)
    await options.volume.reached(given.generation)
    const grant = { ...given, runs: [...given.runs], shared: [...given.shared], next: null }
    const disk = new CsvDisk({ committed: true, ...options }, grant)
    options.volume.disks.set(given.disk, disk)
    return disk
  }

  /** The handover is committed: it is held here. */
  taken(): void {
    if (this.#closing === null) this.#options.volume.added(this)
  }

  get size(): number {
    return this.#size
  }

  get state(): DeviceState {
    return this.#state.state
  }

  /** Why writers wait for somebody to make room; null: they do not. Whoever runs the guest holds it still meanwhile. */
  get critical(): string | null {
    return this.#state.critical
  }

  onCritical(listener: (why: string | null) => void): void {
    this.#state.onCritical(listener)
  }

  /** For displays and tests. */
  get figures(): { readonly mappedExtents: number; readonly mapVersion: number; readonly requests: number } {
    return { mappedExtents: this.#map.mapped, mapVersion: this.#map.version, requests: this.#gate.requests }
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    if (this.#trace.on) return this.#trace.read(offset, length, () => this.#read(offset, length, io))
    return this.#read(offset, length, io)
  }

  write(offset: number, data: readonly Uint8Array[], _flags: { readonly fua?: true }, io: Io): Promise<void> {
    let length = 0
    for (let i = 0; i < data.length; i += 1) length += data[i]!.length
    if (this.#trace.on) {
      return this.#trace.change('write', offset, length, data, () => this.#write(offset, length, data, io))
    }
    return this.#write(offset, length, data, io)
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    const run = (): Promise<void> =>
      this.#changing(offset, length, false, io, () => this.#slow.zero(offset, length, flags, io))
    return this.#trace.on ? this.#trace.change('zero', offset, length, null, run) : run()
  }

  /** Reads as zeroes from then on; whole extents go back to the volume. */
  trim(offset: number, length: number, _flags: { readonly fua?: true }, io: Io): Promise<void> {
    const run = (): Promise<void> =>
      this.#changing(offset, length, false, io, () => this.#slow.trim(offset, length, io))
    return this.#trace.on ? this.#trace.change('trim', offset, length, null, run) : run()
  }

  /** Every acknowledged write is durable already. */
  flush(io: Io): Promise<void> {
    const run = (): Promise<void> => this.#checked(0, 0, false, io, () => Promise.resolve())
    return this.#trace.on ? this.#trace.change('flush', 0, 0, null, run) : run()
  }

  async blockStatus(offset: number, length: number, _io: Io): Promise<BlockExtent[]> {
    const error = this.#judge(offset, length, false) ?? (length === 0 ? this.#error('EINVAL', 'no bytes') : null)
    if (error !== null) throw error
    return this.#slow.status(offset, length)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#state.onState(listener)
  }

  /** The owner made it larger; shrinking happens only while it is detached. Word of it may come late, or twice. */
  resized(sizeBytes: number, mapVersion: number): void {
    if (sizeBytes <= this.#size) return
    this.#size = sizeBytes
    this.#map.resize(Math.ceil(sizeBytes / this.#extentBytes))
    this.#map.version = Math.max(this.#map.version, mapVersion)
  }

  /**
   * For a snapshot: resolves when every write that had begun is done and unmarked; from the call on nothing is written in
   * place before the owner was asked. Reads and writes go on. Rejects with `outcome-unknown` when a write may still land.
   */
  async barrier(): Promise<void> {
    if (this.#state.failure !== null) throw this.#state.failure
    this.#map.shareAll()
    await this.#gate.grace()
    // Else marks would be left of what is not this disk's once it has extents of its own, and no recovery looks there.
    await this.#options.volume.intent.vacate(this.covers())
    // What landed after this host was fenced, or the disk closed, is not this disk's to speak of.
    if (this.#state.failure !== null) throw this.#state.failure
  }

  /** The VM's placement epoch, and the host's, at which it is held. */
  get heldAt(): { readonly epoch: number; readonly hostEpoch: number } {
    return { epoch: this.#options.epoch, hostEpoch: this.#options.volume.options.hostEpoch }
  }

  /**
   * No request is in flight and none will be sent, until `resume`; nothing of this disk is marked. New requests wait.
   * Rejects with `drain-interrupted` on `resume`, with `outcome-unknown` when a write may still land.
   */
  async drain(): Promise<void> {
    this.#gate.shut()
    await this.#gate.idle()
    if (this.#gate.isShut) await this.#frees.idle()
    // Whoever has it next must find nothing overwritten from here.
    if (this.#gate.isShut) await this.#options.volume.removed(this)
    if (!this.#gate.isShut) throw interrupted(this.#options.disk)
    await this.#options.volume.intent.clear(this.covers())
    if (!this.#gate.isShut) throw interrupted(this.#options.disk)
    this.#drained = true
  }

  resume(): void {
    this.#drained = false
    this.#gate.open()
    this.taken()
  }

  /** After `drain`: what the target of a migration needs. */
  handover(): Json {
    assert(this.#drained, 'a disk is handed over before it was drained')
    const { view, generation } = this.#options.volume
    const handover: Handover = {
      ...{ disk: this.#options.disk, volumeId: view.volumeId, generation: generation.number },
      ...{ sizeBytes: this.#size, readOnly: this.caps.readOnly },
      ...{ mapVersion: this.#map.version, runs: this.#map.runs(), shared: this.#map.shared() },
    }
    return handover as unknown as Json
  }

  /** The session was raised: no write of unknown outcome can land any more. */
  settleUnknown(): void {
    this.#options.volume.intent.settle(this.covers())
  }

  /** Its guest is being killed: what waits for the owner, or for room, ends with an error that nobody sees. */
  abandon(): void {
    this.#asker.close()
    this.#full.close()
    this.departures.abandon(this.#error('ESHUTDOWN', 'it ends'))
  }

  /**
   * Waits for the requests in flight (not for those that wait for the owner: they end with an error) and clears the
   * disk's marks if that is possible; the reason of the state `closed` says if it was not. The LUN's device stays open,
   * other disks use it. To give the disk up in order: `drain`, `close`, then tell the owner `volume.detach`.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#state.failure = this.#error('ESHUTDOWN', 'it is closed')
    const { disks } = this.#options.volume
    if (disks.get(this.#options.disk) === this) disks.delete(this.#options.disk)
    this.abandon()
    this.#gate.refuse(this.#state.failure)
    await this.#gate.idle()
    await this.#frees.idle()
    await this.#options.volume.removed(this)
    const reason = await this.#options.volume.intent.clear(this.covers()).then(
      () => 'closed',
      error => `closed, its marks are left for recovery: ${errorMessage(error)}`,
    )
    this.#state.set('closed', reason)
  }

  // --- requests --------------------------------------------------------------------------------------------------------

  #read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    const gate = this.#gate
    const extentBytes = this.#extentBytes
    const index = (offset / extentBytes) | 0
    const within = offset - index * extentBytes
    if (
      this.#judge(offset, length, true) === null &&
      !gate.isShut &&
      within + length <= extentBytes &&
      length > 0 &&
      (this.#ranges.size === 0 || this.#ranges.isFree(offset, offset + length))
    ) {
      const extent = this.#map.extents[index]!
      if (extent < 0) return Promise.resolve([new Uint8Array(length)])
      if (this.departures.isLeaving(extent)) return this.#readLater(offset, length, io)
      const generation = gate.enter()
      return this.#device.read(this.#dataOffset + extent * extentBytes + within, length, io).then(
        parts => {
          gate.leave(generation)
          // The disk has left this extent meanwhile, and it may be another's by now.
          if (this.#map.extents[index] === extent) return parts
          return this.#readLater(offset, length, io)
        },
        error => {
          gate.leave(generation)
          throw error
        },
      )
    }
    return this.#readLater(offset, length, io)
  }

  #readLater(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#checked(offset, length, true, io, () => this.#slow.read(offset, length, io))
  }

  #write(offset: number, length: number, data: readonly Uint8Array[], io: Io): Promise<void> {
    const extentBytes = this.#extentBytes
    const index = (offset / extentBytes) | 0
    const within = offset - index * extentBytes
    if (
      this.#judge(offset, length, true) === null &&
      !this.#gate.isShut &&
      within + length <= extentBytes &&
      length > 0
    ) {
      const extent = this.#map.writable[index]!
      if (extent >= 0 && this.#ranges.isFree(offset, offset + length)) {
        const address = this.#dataOffset + extent * extentBytes + within
        const region = Math.floor(address / this.#regionBytes)
        if (address + length <= (region + 1) * this.#regionBytes) {
          const bit = this.#options.volume.intent.take(region)
          if (bit !== null) return this.#writeNow(address, offset, length, data, bit, io)
        }
      }
    }
    return this.#changing(offset, length, true, io, () => this.#slow.write(offset, length, data, io))
  }

  #writeNow(
    address: number,
    offset: number,
    length: number,
    data: readonly Uint8Array[],
    bit: IntentBit,
    io: Io,
  ): Promise<void> {
    const range = this.#ranges.add(offset, offset + length)
    const generation = this.#gate.enter()
    const over = (uncertain: boolean): void => {
      this.#options.volume.intent.release(bit, uncertain)
      this.#gate.leave(generation)
    }
    return this.#device.write(address, data, FUA, io).then(
      () => {
        this.#ranges.remove(range)
        over(false)
      },
      error => {
        over(mayStillLand(error))
        // A part of it may be there: what overlaps it must wait until all of it is.
        const again = (): Promise<void> => this.#slow.write(offset, length, data, io, range)
        const settled = isStorageFull(error) ? this.#changing(offset, length, true, io, again) : Promise.reject(error)
        return settled.finally(() => this.#ranges.remove(range)).catch(later => Promise.reject(worse(later, error)))
      },
    )
  }

  #changing(offset: number, length: number, bounded: boolean, io: Io, run: () => Promise<void>): Promise<void> {
    if (this.caps.readOnly) return Promise.reject(this.#error('EPERM', 'it is a snapshot, and only read'))
    return this.#checked(offset, length, bounded, io, run)
  }

  /** A request off the fast path: judged, let in when the gate is open, counted until it is over. */
  async #checked<T>(offset: number, length: number, bounded: boolean, io: Io, run: () => Promise<T>): Promise<T> {
    // Again: the gate may have been shut anew before those that it let go on had their turn.
    while (this.#gate.isShut && this.#state.failure === null) {
      await this.#gate.opened(io, this.#options.volume.options.env)
    }
    const error = this.#judge(offset, length, bounded)
    if (error !== null) throw error
    this.#gate.enterSlow()
    try {
      return await run()
    } catch (failure) {
      throw failure instanceof BlockError ? failure : this.#eio(failure)
    } finally {
      this.#gate.leaveSlow()
    }
  }

  /** Null: the request may go on. `bounded`: zero and trim may be longer than reads and writes. */
  #judge(offset: number, length: number, bounded: boolean): BlockError | null {
    if (this.#state.failure !== null) return this.#state.failure
    const { maximum } = this.limits
    const isInside = offset >= 0 && offset + length <= this.#size
    const isAligned = offset % this.#minimum === 0 && length % this.#minimum === 0
    if (isInside && isAligned && (!bounded || length <= maximum)) return null
    return misfit(this.#options.disk, { offset, length }, { size: this.#size, minimum: this.#minimum, maximum })
  }

  // --- resync -----------------------------------------------------------------------------------------------------------

  get id(): string {
    return this.#options.disk
  }

  covers(): (region: number) => boolean {
    const own = new Set(this.#map.extents)
    return region => own.has(this.#extentOf(region))
  }

  /** Compares a part of it on all legs; null: it does not have that extent there. */
  scrub(part: ScrubPart): Promise<ScrubFinding[] | null> {
    return scrubPart(this.#options.volume, this.#map, this.#gate, part)
  }

  // --- states ----------------------------------------------------------------------------------------------------------

  holding(): { volume: string; disk: string; host: string; epoch: number; committed: boolean } {
    const { volume, disk, epoch, committed } = this.#options
    return { volume: volume.options.volume, disk, host: volume.options.host, epoch, committed: committed ?? false }
  }

  #extentOf(region: number): number {
    return Math.floor((region * this.#regionBytes - this.#dataOffset) / this.#extentBytes)
  }

  #fail(error: unknown): void {
    if (this.#closing !== null) return
    this.#state.failure ??= this.#eio(error)
    this.departures.abandon(this.#state.failure)
    this.#state.set('failed', errorMessage(error))
  }

  #eio(error: unknown): BlockError {
    return diskError('EIO', this.#options.disk, errorMessage(error), error)
  }

  #error(errno: 'EINVAL' | 'ESHUTDOWN' | 'EPERM', what: string): BlockError {
    return diskError(errno, this.#options.disk, what)
  }
}
