// A host's write intent on one volume, shared by its disks: before the first write to a region its mark is durable in the
// host's slot; it is taken away lazily, in batches, once nothing is in flight there. Marks are few: what they say is what
// has to be made equal when this host dies.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { Sealer } from '../format/checksum.ts'
import { settleAll, writeBytes } from '../format/device-io.ts'
import {
  BLOCK_BYTES,
  INTENT_BLOCKS,
  INTENT_SECTORS,
  REGIONS_PER_SECTOR,
  SECTOR_BYTES,
  SLOT_INTENT_OFFSET,
} from '../format/layout.ts'
import { encodeIntentSector, type Intent, readIntent } from '../format/slot.ts'
import { catchingLegs, missingLegs, oneLeg, type VolumeGeneration } from '../mirror/leg-state.ts'
import type { StaleLeg, StaleLog } from '../mirror/stale-log.ts'

/** Regions marked at the same time, on the volume: it bounds what recovery has to copy. */
export const MAX_INTENT_BITS = 1024
/** When so many are marked, the longest unused go in the next write of the slot. */
const EVICT_ABOVE = 960
const EVICT_BATCH = 128
/** A mark unused for one to two of these is taken away. */
const SWEEP_MS = 5_000

const INTENT_IO: Io = { origin: 'intent-log', deadlineAt: null }

export interface IntentBit {
  readonly region: number
  /** `wanted`: not in the slot yet; `set`: durable; `clearing`: on its way out. */
  state: 'wanted' | 'set' | 'clearing'
  /** Requests in flight in this region. */
  users: number
  /** The sweep at which it was used last. */
  used: number
  /** A write here has an unknown outcome: the mark stays. */
  uncertain: boolean
  /** Writes that ended so. */
  failures: number
  sector: number
  /** Those who wait for it to become set, or for it to be gone. */
  waiters: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[]
}

export interface IntentLogOptions {
  readonly device: BlockDevice
  readonly volumeId: string
  readonly slotOffset: number
  readonly timers: Timers
  /** Where it is kept what a leg misses; only a volume of one leg needs none. */
  readonly stale?: StaleLog
  /** Of the mirror below, when it was opened. */
  readonly generation?: VolumeGeneration
  /** Makes a region equal on all legs, after a write that some of them may have done in part. */
  readonly equalize?: (region: number) => Promise<void>
  /** Whether a disk that is held here has it; absent: all are. What is somebody else's by now may be written there. */
  readonly holds?: (region: number) => boolean
}

export class IntentLog {
  readonly #device: BlockDevice
  readonly #address: number
  readonly #sealer: Sealer
  readonly #timers: Timers
  readonly #bits = new Map<number, IntentBit>()
  readonly #sectors: Set<number>[] = Array.from({ length: INTENT_SECTORS }, () => new Set<number>())
  readonly #image = new Uint8Array(INTENT_BLOCKS * BLOCK_BYTES)
  /** Sectors whose image on the volume is, or may be, another than ours. */
  readonly #dirty = new Set<number>()
  #wanted: IntentBit[] = []
  #clearing: IntentBit[] = []
  #inSlot = 0
  #sequence: number
  #sweep = 0
  #timer: Timer | null = null
  #working: Promise<void> | null = null
  /** A wanted mark found no room: the next release wakes the writer. */
  #blocked = false
  /** A region that is being made equal without anybody having asked for it. */
  #equalizing: { readonly region: number; readonly over: Promise<void> } | null = null
  #closed = false
  /** Why the last write of the slot failed, until one succeeds. */
  #lastError: unknown = null
  readonly #staleLog: StaleLog | null
  readonly #equalize: ((region: number) => Promise<void>) | null
  readonly #holds: (region: number) => boolean
  /** The leg that misses what is written now (`keeps`), or that is catching up. */
  #behind: StaleLeg | null = null
  #keeps = false
  /** A leg is behind, and it is not known yet under which tag its marks count: no mark may go meanwhile. */
  #stuck = false
  /** Regions whose marks go, or may go, while a leg is behind: they are in its stale bitmap before the slot is written. */
  readonly #owed = new Set<number>()
  /** Those who wait for marks that are in use. */
  readonly #vacating: (() => void)[] = []

  private constructor(options: IntentLogOptions, sequence: number) {
    this.#staleLog = options.stale ?? null
    this.#equalize = options.equalize ?? null
    this.#holds = options.holds ?? (() => true)
    this.#device = options.device
    this.#address = options.slotOffset + SLOT_INTENT_OFFSET
    this.#sealer = new Sealer(options.volumeId)
    this.#timers = options.timers
    this.#sequence = sequence
  }

  /**
   * Opens the host's own slot. `found` is what an earlier incarnation left marked; `recover` makes that equal on all legs
   * (with one leg there is nothing to do), then the slot is cleared.
   */
  static async open(
    options: IntentLogOptions,
    recover: (found: Intent) => Promise<void> = () => Promise.resolve(),
  ): Promise<IntentLog> {
    const sealer = new Sealer(options.volumeId)
    const found = await readIntent(options.device, options.slotOffset, sealer, INTENT_IO)
    if (found.regions.length > 0 || found.damagedSectors.length > 0) await recover(found)
    const log = new IntentLog(options, found.sequence)
    log.follow(options.generation ?? oneLeg())
    await writeBytes(options.device, log.#address, log.#image, INTENT_IO)
    return log
  }

  /**
   * The mirror below serves in another generation. Called before anything that it held is acknowledged: what is marked now
   * covers all that a leg lost in the old generation may lack. Gives what is marked, and what has lost its mark here without
   * being written down for the leg that missed it: nobody else knows of that.
   */
  follow(generation: VolumeGeneration): ReadonlySet<number> {
    const marked = new Set([...this.#bits.keys(), ...this.#owed])
    const missing = missingLegs(generation)[0]
    const catching = catchingLegs(generation)[0]
    const leg = missing ?? catching
    const lastInSync = leg?.lastInSync ?? null
    this.#keeps = missing !== undefined
    this.#stuck = lastInSync === 'unknown'
    this.#behind = leg === undefined || typeof lastInSync !== 'number' ? null : { index: leg.index, lastInSync }
    if (leg === undefined) this.#owed.clear()
    if (catching !== undefined) {
      // A leg that has been away knows nothing of this slot; and what is marked has not been copied to it.
      for (let sector = 0; sector < INTENT_SECTORS; sector += 1) this.#dirty.add(sector)
      for (const region of marked) this.#owed.add(region)
    }
    if (this.#bits.size > 0 || this.#dirty.size > 0) this.#wake()
    return marked
  }

  /** Marked regions, those on their way in or out included. */
  get size(): number {
    return this.#bits.size
  }

  /** The mark, counted as used by one more request, if it is durable already; else null: ask `mark`. */
  take(region: number): IntentBit | null {
    const bit = this.#bits.get(region)
    if (bit === undefined || bit.state !== 'set') return null
    bit.users += 1
    bit.used = this.#sweep
    return bit
  }

  /** All of them, or null and none. */
  takeAll(regions: readonly number[]): IntentBit[] | null {
    const bits: IntentBit[] = []
    for (const region of regions) {
      const bit = this.take(region)
      if (bit === null) {
        for (const taken of bits) this.release(taken, false)
        return null
      }
      bits.push(bit)
    }
    return bits
  }

  /** Gives back what `take` or `mark` gave. */
  release(bit: IntentBit, uncertain: boolean): void {
    bit.users -= 1
    if (uncertain) {
      bit.uncertain = true
      bit.failures += 1
    }
    if (bit.users > 0) return
    if (this.#blocked) this.#wake()
    if (this.#vacating.length > 0) this.#lookAgain()
  }

  /** Durable when it resolves; each bit is counted as used. */
  async mark(regions: readonly number[]): Promise<IntentBit[]> {
    const results = await Promise.allSettled(regions.map(region => this.#markOne(region)))
    const bits = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
    const failed = results.find(result => result.status === 'rejected')
    if (failed === undefined) return bits
    for (const bit of bits) this.release(bit, false)
    throw failed.reason
  }

  /**
   * Takes away the marks of all regions that `covers` accepts; none of them may be in use. Durable when it resolves.
   * Refuses with `outcome-unknown` while a write there may still land.
   */
  async clear(covers: (region: number) => boolean): Promise<void> {
    const now = this.#equalizing
    if (now !== null && covers(now.region)) await now.over
    // Else in the same turn as it was called: what is marked in the next one is not meant.
    if (this.#equalize !== null && [...this.#bits.values()].some(bit => bit.uncertain && covers(bit.region))) {
      await this.#settleUncertain(covers)
    }
    const gone: Promise<void>[] = []
    for (const bit of this.#bits.values()) {
      if (!covers(bit.region)) continue
      assert(bit.users === 0, `region ${bit.region} is cleared while it is being written`)
      if (bit.uncertain) throw outcomeUnknown(bit.region)
      if (bit.state === 'set') this.#clearBit(bit)
      gone.push(new Promise((resolve, reject) => bit.waiters.push({ resolve, reject })))
    }
    this.#wake()
    await Promise.all(gone)
    // A clear that failed before left the slot other than the image: it counts only once that is mended.
    while (this.#dirty.size > 0) {
      this.#wake()
      await this.#working
      if (this.#lastError !== null) throw this.#lastError
    }
  }

  /** Where nothing can land any more but the legs may differ, they are made equal. */
  async #settleUncertain(covers: (region: number) => boolean): Promise<void> {
    if (this.#equalize === null) return
    for (const bit of [...this.#bits.values()]) {
      if (!bit.uncertain || !covers(bit.region)) continue
      await this.#equalize(bit.region)
      bit.uncertain = false
    }
  }

  /**
   * Marks that stay would in the end leave no room for any other, and no snapshot could be made: as soon as the legs let
   * themselves be made equal, these may go too.
   */
  async #settleInTime(): Promise<void> {
    if (this.#equalize === null || this.#equalizing !== null) return
    for (const bit of [...this.#bits.values()]) {
      if (!bit.uncertain || this.#closed || !this.#holds(bit.region)) continue
      const { region, failures } = bit
      let equal = false
      // A leg that is in trouble still is tried again by the next sweep.
      const over = this.#equalize(region).then(
        () => {
          equal = true
        },
        () => undefined,
      )
      this.#equalizing = { region, over }
      await over
      this.#equalizing = null
      if (!equal) return
      if (bit.failures === failures) bit.uncertain = false
    }
    if (this.#blocked) this.#wake()
  }

  /**
   * As `clear`, of regions where nothing is written any more, though a request may have one in hand that finds that out only
   * now: waits for it.
   */
  async vacate(covers: (region: number) => boolean): Promise<void> {
    for (;;) {
      this.refuseUncertain(covers)
      const left = [...this.#bits.values()].filter(bit => covers(bit.region))
      if (left.length === 0 || canary('marked-past-barrier')) return
      if (left.every(bit => bit.users === 0)) await this.clear(covers)
      else await new Promise<void>(resolve => this.#vacating.push(resolve))
    }
  }

  /** Throws `outcome-unknown` while a write there may still land. */
  refuseUncertain(covers: (region: number) => boolean): void {
    for (const bit of this.#bits.values()) if (bit.uncertain && covers(bit.region)) throw outcomeUnknown(bit.region)
  }

  #lookAgain(): void {
    for (const resolve of this.#vacating.splice(0)) resolve()
  }

  /** The session was raised (and the legs made equal) since: no write of unknown outcome can land any more. */
  settle(covers: (region: number) => boolean): void {
    for (const bit of this.#bits.values()) if (covers(bit.region)) bit.uncertain = false
  }

  /** Nothing of this volume may be in use any more. Clears the slot. */
  async close(): Promise<void> {
    this.#timer?.cancel()
    this.#timer = null
    if (this.#closed) return
    this.#closed = true
    await this.clear(() => true)
  }

  async #markOne(region: number): Promise<IntentBit> {
    for (;;) {
      let bit = this.#bits.get(region)
      if (bit === undefined) {
        bit = {
          region,
          state: 'wanted',
          users: 0,
          used: this.#sweep,
          uncertain: false,
          failures: 0,
          sector: -1,
          waiters: [],
        }
        this.#bits.set(region, bit)
        this.#wanted.push(bit)
        this.#wake()
      }
      const waited = bit.state !== 'set'
      if (bit.state !== 'clearing') {
        bit.users += 1
        bit.used = this.#sweep
      }
      if (!waited) return bit
      const wasClearing = bit.state === 'clearing'
      const ready = bit
      await new Promise<void>((resolve, reject) => ready.waiters.push({ resolve, reject })).catch(error => {
        if (!wasClearing) throw error
      })
      if (!wasClearing) return bit
    }
  }

  #clearBit(bit: IntentBit): void {
    bit.state = 'clearing'
    this.#clearing.push(bit)
  }

  #wake(): void {
    this.#working ??= this.#work()
  }

  /** Collects what wants to change, writes the blocks of the slot that it touches, and again. */
  async #work(): Promise<void> {
    // One turn later: marks wanted together go in one write.
    await null
    for (;;) {
      this.#blocked = false
      const cleared = this.#takeClearing()
      const set = this.#takeWanted()
      if (this.#dirty.size === 0) {
        this.#blocked = this.#wanted.length > 0
        break
      }
      try {
        await this.#payOwed()
        await this.#write()
        this.#lastError = null
      } catch (error) {
        this.#lastError = error
        for (const bit of set) this.#drop(bit)
        this.#finish(cleared, set, error)
        break
      }
      this.#inSlot -= cleared.length
      this.#finish(cleared, set, null)
    }
    this.#working = null
    const mayClear = this.#clearing.length > 0 && !this.#stuck
    if (mayClear || (this.#wanted.length > 0 && !this.#blocked)) this.#wake()
    this.#arm()
  }

  async #payOwed(): Promise<void> {
    if (this.#owed.size === 0 || this.#behind === null) return
    const regions = [...this.#owed]
    assert(this.#staleLog !== null, 'a leg is behind, and there is nowhere to write down what it misses')
    await this.#staleLog.mark(this.#behind, regions)
    for (const region of regions) this.#owed.delete(region)
  }

  #takeClearing(): IntentBit[] {
    if (this.#stuck) return []
    const excess = this.#inSlot + this.#wanted.length - EVICT_ABOVE
    if (excess > 0) this.#evict(Math.max(excess, EVICT_BATCH))
    const cleared = this.#clearing
    this.#clearing = []
    for (const bit of cleared) {
      if (this.#keeps && !canary('region-cleared-while-stale')) this.#owed.add(bit.region)
      this.#sectors[bit.sector]!.delete(bit.region)
      this.#dirty.add(bit.sector)
    }
    return cleared
  }

  /** As many as have room beside those that are, or may be, in the slot. */
  #takeWanted(): IntentBit[] {
    const set = this.#wanted.splice(0, Math.max(0, MAX_INTENT_BITS - this.#inSlot))
    this.#inSlot += set.length
    for (const bit of set) {
      bit.sector = this.#sectorWithRoom()
      this.#sectors[bit.sector]!.add(bit.region)
      this.#dirty.add(bit.sector)
    }
    return set
  }

  /** The longest unused of those with nothing in flight. */
  #evict(count: number): void {
    const idle = [...this.#bits.values()].filter(bit => bit.state === 'set' && bit.users === 0 && !bit.uncertain)
    idle.sort((a, b) => a.used - b.used)
    for (const bit of idle.slice(0, count)) this.#clearBit(bit)
  }

  #sectorWithRoom(): number {
    // One in a block that is written anyway, if there is one.
    for (const stale of this.#dirty) {
      const first = stale - (stale % SECTORS_PER_BLOCK)
      for (let i = first; i < first + SECTORS_PER_BLOCK; i += 1)
        if (this.#sectors[i]!.size < REGIONS_PER_SECTOR) return i
    }
    const sector = this.#sectors.findIndex(regions => regions.size < REGIONS_PER_SECTOR)
    assert(sector >= 0, 'the slot has no room for so many marks')
    return sector
  }

  async #write(): Promise<void> {
    this.#sequence += 1
    const stale = [...this.#dirty]
    // What is to be written anew from here on, as a leg comes back that lacks it, is not written by what is under way now.
    this.#dirty.clear()
    const blocks = new Set<number>()
    for (const sector of stale) {
      const target = this.#image.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
      const address = this.#address + sector * SECTOR_BYTES
      encodeIntentSector(target, [...this.#sectors[sector]!], this.#sequence, this.#sealer, address)
      blocks.add(Math.floor(sector / SECTORS_PER_BLOCK))
    }
    const writes = [...blocks].map(block => {
      const bytes = this.#image.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
      return writeBytes(this.#device, this.#address + block * BLOCK_BYTES, bytes, INTENT_IO)
    })
    await settleAll(writes).catch((error: unknown) => {
      for (const sector of stale) this.#dirty.add(sector)
      throw error
    })
  }

  #drop(bit: IntentBit): void {
    this.#sectors[bit.sector]!.delete(bit.region)
    this.#dirty.add(bit.sector)
    this.#bits.delete(bit.region)
    this.#inSlot -= 1
  }

  #finish(cleared: readonly IntentBit[], set: readonly IntentBit[], error: unknown): void {
    for (const bit of cleared) {
      this.#bits.delete(bit.region)
      if (error !== null) this.#inSlot -= 1
    }
    if (error === null) for (const bit of set) bit.state = 'set'
    for (const bit of [...cleared, ...set]) {
      const waiters = bit.waiters
      bit.waiters = []
      for (const waiter of waiters) {
        if (error === null) waiter.resolve()
        else waiter.reject(error)
      }
    }
    this.#lookAgain()
  }

  #arm(): void {
    if (this.#timer !== null || this.#closed || this.#bits.size === 0) return
    this.#timer = this.#timers.after(SWEEP_MS, () => {
      this.#timer = null
      for (const bit of this.#bits.values()) {
        if (bit.state === 'set' && bit.users === 0 && !bit.uncertain && bit.used < this.#sweep) this.#clearBit(bit)
      }
      this.#sweep += 1
      void this.#settleInTime()
      if (this.#clearing.length > 0) this.#wake()
      else this.#arm()
    })
  }
}

const SECTORS_PER_BLOCK = BLOCK_BYTES / SECTOR_BYTES

function outcomeUnknown(region: number): StellwerkError {
  return new StellwerkError('outcome-unknown', `a write to region ${region} may still land`, {
    hint: 'raise the session and settle it first',
  })
}
