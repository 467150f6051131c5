// Copies to a leg that is catching up what it misses of the disks attached here: the owner says which regions, the mirror
// copies each with the range to itself, and the owner is told when a disk is done. Nothing of it is durable: what was not
// told is copied again. A disk that is removed is copied no more from then on, not even what was read before: it may be
// another host's next, and what that one writes must not be overwritten from here (rule MIR1). Likewise an extent that has left
// the disk since the owner made its plan (disk/extent-departures.ts): the plan is pages long, and hours old.

import { BlockError } from '@stellwerk/block/device.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import type { Copying, ExtentDepartures, MayCopy } from '../disk/extent-departures.ts'
import type { OwnerCall } from '../owner/request.ts'
import { unreadableText } from './copy-range.ts'
import { catchingLegs, type VolumeGeneration } from './leg-state.ts'
import { UNREADABLE_RETRY_MS } from './owner-sync.ts'

/** A disk that is attached here. */
export interface ResyncDisk {
  readonly id: string
  /** By which right it is held. */
  holding(): {
    readonly volume: string
    readonly disk: string
    readonly host: string
    readonly epoch: number
    readonly committed: boolean
  }
  /** Says of a region whether it belongs to one of its extents, as these are now and as far as is known here. */
  covers(): (region: number) => boolean
  readonly departures: Pick<ExtentDepartures, 'count' | 'mayCopy' | 'forget'>
}

export interface ResyncPace {
  /** While guests are at work; else as fast as it goes. */
  readonly bytesPerSecond: () => number
  /** Guests have been at work in the last moments. */
  readonly busy: () => boolean
}

export interface ResyncProgress {
  readonly generation: number
  readonly copiedBytes: number
  /** What keeps it from ending: something cannot be read. Absent: nothing. */
  readonly why?: string
}

export interface HostResyncOptions {
  readonly volume: string
  readonly host: string
  readonly regionBytes: number
  readonly owner: OwnerCall
  /** `mayWrite` is asked in the turn in which what was read is written. Gives the blocks that no leg in sync can read. */
  readonly copy: (offset: number, length: number, mayWrite: () => boolean) => Promise<readonly number[]>
  readonly pace?: ResyncPace
  readonly env: Pick<Environment, 'clock' | 'timers' | 'trace'>
}

/** After a question that was not answered, or a region that could not be copied. */
const RETRY_MS = 300
/** Regions copied at the same time while no guest is at work. */
const COPIES_AT_ONCE = 4
/** While guests are at work: none of their requests finds more of the copying in its way, or locked, than this. */
const BUSY_PIECE_BYTES = 128 * KIB
/** Once synced, the owner is told again so often: it may be another by then. */
const REMIND_MS = 2_000

/** What could not be copied of a disk, the rest of which was. */
interface Left {
  /** Blocks that no leg in sync can read. */
  readonly unreadable: readonly number[]
  /** Regions of extents that may be leaving the disk. */
  readonly leaving: readonly number[]
  /** Departures before the first plan that had them. */
  readonly since: number
}

/** A disk that is to be copied, from its coming until it is removed. */
interface Seat {
  readonly disk: ResyncDisk
}

/** Of regions that are copied: by which right, and as things were after so many departures. */
interface Plan {
  readonly seat: Seat
  readonly over: () => boolean
  readonly since: number
}

export class HostResync {
  readonly #options: HostResyncOptions
  readonly #disks = new Map<string, Seat>()
  /** Disk → what is being written of it, and in which region. */
  readonly #writing = new Map<string, Map<Promise<void>, number>>()
  readonly #synced = new Set<string>()
  /** Disk → what is left of it, of what else was copied in this generation. */
  readonly #left = new Map<string, Left>()
  /** Regions that were marked when the generation began, which no plan of the owner need have. */
  #marked: ReadonlySet<number> = new Set()
  #generation: VolumeGeneration | null = null
  #run = 0
  #working = false
  #wake: (() => void) | null = null
  #why: string | null = null
  #copiedBytes = 0

  constructor(options: HostResyncOptions) {
    this.#options = options
  }

  /** What is copied of a disk, for who must know. */
  of(disk: ResyncDisk): Copying {
    return {
      isUnderWay: () => this.#generation !== null,
      settled: isMeant => this.#settled(disk, isMeant),
    }
  }

  /** Why the copying does not go on at the moment; null: it does, or there is nothing to copy. */
  get why(): string | null {
    return this.#why
  }

  /** What was copied from here to a leg that is catching up; null: none is. */
  get progress(): ResyncProgress | null {
    if (this.#generation === null) return null
    const [first] = this.#left
    return {
      ...{ generation: this.#generation.number, copiedBytes: this.#copiedBytes },
      ...(first === undefined ? {} : { why: `${first[0]}: ${leftText(first[1])}` }),
    }
  }

  follow(generation: VolumeGeneration, marked: ReadonlySet<number>): void {
    this.#generation = catchingLegs(generation).length > 0 ? generation : null
    this.#marked = canary('marks-not-copied') ? new Set() : marked
    this.#synced.clear()
    this.#left.clear()
    this.#run += 1
    for (const { disk } of this.#disks.values()) disk.departures.forget()
    this.#why = null
    this.#copiedBytes = 0
    this.#start()
  }

  add(disk: ResyncDisk): void {
    if (this.#disks.get(disk.id)?.disk === disk) return
    this.#disks.set(disk.id, { disk })
    this.#synced.delete(disk.id)
    this.#left.delete(disk.id)
    this.#start()
  }

  /** From the call on nothing more of it is copied; resolves when nothing of it is being written. */
  async remove(disk: ResyncDisk): Promise<void> {
    const seat = this.#disks.get(disk.id)
    if (seat?.disk !== disk) return
    this.#disks.delete(disk.id)
    this.#synced.delete(disk.id)
    this.#left.delete(disk.id)
    await this.#settled(disk, () => true)
  }

  /** Resolves when nothing is being written in the disk's regions of that kind that was begun before. */
  async #settled(disk: ResyncDisk, isMeant: (region: number) => boolean): Promise<void> {
    const writing = [...(this.#writing.get(disk.id) ?? [])]
    await Promise.allSettled(writing.filter(([, region]) => isMeant(region)).map(([written]) => written))
  }

  stop(): void {
    this.#generation = null
    this.#run += 1
    this.#disks.clear()
    this.#wake?.()
  }

  #start(): void {
    this.#wake?.()
    if (this.#working || this.#generation === null || this.#disks.size === 0) return
    this.#working = true
    void this.#work().finally(() => {
      this.#working = false
      // What came in the last moment.
      if (this.#generation !== null && this.#next() !== null) this.#start()
    })
  }

  #next(): Seat | null {
    const left = [...this.#disks.values()].filter(({ disk }) => !this.#synced.has(disk.id))
    const fresh = left.find(({ disk }) => !this.#left.has(disk.id))
    if (fresh !== undefined) return fresh
    // What is left of the others is tried in turn.
    const [longest] = this.#left.keys()
    return left.find(({ disk }) => disk.id === longest) ?? null
  }

  async #work(): Promise<void> {
    while (this.#generation !== null && this.#disks.size > 0) {
      const seat = this.#next()
      if (seat === null) {
        await this.#sleep(REMIND_MS)
        if (this.#next() === null) await this.#remind()
        continue
      }
      // Only what could not be copied is left: woken early, there may be more.
      const before = this.#left.get(seat.disk.id)
      const restsMs = before !== undefined && before.leaving.length === 0 ? UNREADABLE_RETRY_MS : RETRY_MS
      if (before !== undefined && (await this.#sleep(restsMs)) === 'woken') continue
      const run = this.#run
      const generation = this.#generation.number
      try {
        const left = await this.#sync(seat, generation, run)
        if (this.#isOver(seat, run)) continue
        this.#left.delete(seat.disk.id)
        if (isNothing(left)) this.#synced.add(seat.disk.id)
        else this.#left.set(seat.disk.id, left)
        this.#why = null
      } catch (error) {
        if (this.#isOver(seat, run)) continue
        this.#why = `${seat.disk.id}: ${errorMessage(error)}`
        await this.#sleep(RETRY_MS)
      }
    }
  }

  #isOver(seat: Seat, run: number): boolean {
    return run !== this.#run || this.#disks.get(seat.disk.id) !== seat
  }

  /** Gives what could not be copied: the rest of it has been, and that is all that is tried the next time. */
  async #sync(seat: Seat, generation: number, run: number): Promise<Left> {
    const { owner, regionBytes } = this.#options
    const { disk } = seat
    const over = (): boolean => this.#isOver(seat, run)
    const { volume, host, env } = this.#options
    env.trace.emit({ level: 'decision', kind: 'mirror.copying', volume, host, disk: disk.id, body: { generation } })
    const before = this.#left.get(disk.id)
    const left = { unreadable: [], leaving: [], since: before?.since ?? disk.departures.count }
    const copyAll = (regions: Iterable<number>, since: number): Promise<void> =>
      this.#copyAll(regions, { seat, over, since }, left)
    // Once copied a region stays equal: from then on whoever writes there writes to every leg.
    const copied = new Set(
      before === undefined
        ? [...this.#marked].filter(disk.covers())
        : [...before.unreadable.map(block => Math.floor(block / regionBytes)), ...before.leaving],
    )
    await copyAll(copied, left.since)
    for (let from: number | null = before === undefined ? 0 : null; from !== null && !over(); ) {
      const since = disk.departures.count
      const plan: { ranges: number[]; next: number | null } = await owner('volume.sync-plan', {
        ...disk.holding(),
        generation,
        from,
      })
      await copyAll(regionsOf(plan.ranges, regionBytes, copied), since)
      from = plan.next
    }
    if (!over() && isNothing(left)) await owner('volume.synced', { ...disk.holding(), generation })
    return left
  }

  /** The owner keeps it in memory only: a new one has to hear it again. */
  async #remind(): Promise<void> {
    const generation = this.#generation
    if (generation === null) return
    for (const { disk } of [...this.#disks.values()]) {
      if (!this.#synced.has(disk.id)) continue
      try {
        await this.#options.owner('volume.synced', { ...disk.holding(), generation: generation.number })
      } catch (error) {
        this.#why = `the owner was not told: ${errorCode(error)}`
      }
    }
  }

  async #copyAll(
    regions: Iterable<number>,
    plan: Plan,
    rest: { readonly unreadable: number[]; readonly leaving: number[] },
  ): Promise<void> {
    const { regionBytes, pace, env } = this.#options
    const { over } = plan
    const pending = new Set<Promise<void>>()
    let failure: unknown = null
    for (const region of regions) {
      if (over() || failure !== null) break
      const busy = pace?.busy() ?? false
      while (pending.size >= (busy ? 1 : COPIES_AT_ONCE)) await Promise.race(pending)
      const startedAt = env.clock.now()
      const copied: Promise<void> = this.#copyRegion(region, busy ? BUSY_PIECE_BYTES : regionBytes, plan).then(
        what => {
          pending.delete(copied)
          if (what === 'later') rest.leaving.push(region)
          else {
            rest.unreadable.push(...what)
            this.#copiedBytes += regionBytes
          }
        },
        (error: unknown) => {
          failure ??= error
          pending.delete(copied)
        },
      )
      pending.add(copied)
      if (!busy || pace === undefined) continue
      await copied
      const share = (regionBytes / pace.bytesPerSecond()) * 1_000
      const left = share - (env.clock.now() - startedAt)
      if (left > 0) await new Promise<void>(resolve => env.timers.after(left, resolve))
    }
    await Promise.all(pending)
    if (failure !== null) throw failure instanceof Error ? failure : new BlockError('EIO', 'none', String(failure))
  }

  /** Gives the blocks that no leg in sync can read; `later`: some of it may be leaving the disk. */
  async #copyRegion(region: number, pieceBytes: number, plan: Plan): Promise<readonly number[] | 'later'> {
    const { regionBytes } = this.#options
    const end = (region + 1) * regionBytes
    const unreadable: number[] = []
    for (let at = region * regionBytes; at < end && !plan.over(); at += pieceBytes) {
      const left = await this.#copyPiece(at, Math.min(pieceBytes, end - at), region, plan)
      if (left === 'later') return left
      // Whoever has it now makes it equal, or whoever gets it.
      if (left === 'gone') break
      unreadable.push(...left)
    }
    return unreadable
  }

  async #copyPiece(
    at: number,
    length: number,
    region: number,
    { seat, over, since }: Plan,
  ): Promise<readonly number[] | 'gone' | 'later'> {
    const { disk } = seat
    let may: MayCopy = disk.departures.mayCopy(region, since)
    if (may !== 'yes') return may
    const { promise: written, resolve } = Promise.withResolvers<void>()
    try {
      return await this.#options.copy(at, length, () => {
        // What was read is written in this turn, or not at all.
        may = disk.departures.mayCopy(region, since)
        if (over() || may !== 'yes') return false
        const writing = this.#writing.get(disk.id) ?? new Map<Promise<void>, number>()
        this.#writing.set(disk.id, writing.set(written, region))
        return true
      })
    } catch (error) {
      if (may === 'yes') throw error
      return may
    } finally {
      const writing = this.#writing.get(disk.id)
      writing?.delete(written)
      if (writing?.size === 0) this.#writing.delete(disk.id)
      resolve()
    }
  }

  #sleep(ms: number): Promise<'slept' | 'woken'> {
    return new Promise(resolve => {
      const timer = this.#options.env.timers.after(ms, () => {
        this.#wake = null
        resolve('slept')
      })
      this.#wake = () => {
        this.#wake = null
        timer.cancel()
        resolve('woken')
      }
    })
  }
}

function* regionsOf(ranges: readonly number[], regionBytes: number, but: ReadonlySet<number>): Iterable<number> {
  for (let i = 0; i + 1 < ranges.length; i += 2) {
    const first = ranges[i]! / regionBytes
    const count = ranges[i + 1]! / regionBytes
    for (let region = first; region < first + count; region += 1) if (!but.has(region)) yield region
  }
}

function isNothing({ unreadable, leaving }: Left): boolean {
  return unreadable.length + leaving.length === 0
}

/** For people. */
function leftText({ unreadable, leaving }: Left): string {
  return unreadable.length > 0
    ? unreadableText(unreadable)
    : `the owner has not said yet whether ${leaving.length} regions are to be this disk's any longer`
}
