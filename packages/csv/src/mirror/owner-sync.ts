// The owner's part of a resync: copies what a leg misses of disks that nobody holds, some regions at a time, between which
// whoever wants the disk gets it. Guests' disks are copied by their hosts.

import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import type { Leg } from '../format/device-io.ts'
import { type Layout, regionCount, slotAddresses } from '../format/layout.ts'
import { bytesToSync, isSynced, nextDetached, planPage } from '../owner/decide-sync.ts'
import type { OwnerState } from '../owner/state.ts'
import { copyRange, unreadableText } from './copy-range.ts'
import { readStale } from './stale-log.ts'

/** Regions copied before others are let at the disk. */
const REGIONS_AT_ONCE = 8
/** After a region that could not be copied. */
const RETRY_MS = 500
/** After blocks that could not be read: they may be written, or read, sooner or later. */
export const UNREADABLE_RETRY_MS = 10_000

export interface OwnerSyncOptions {
  readonly state: OwnerState
  /** In-sync ones first. */
  readonly legs: readonly Leg[]
  readonly bytesPerSecond: () => number
  readonly env: Pick<Environment, 'timers' | 'clock' | 'log'>
  /** Something that waited may go on. */
  readonly news: () => void
}

/** How far a leg is that catches up. */
export interface SyncProgress {
  readonly done: boolean
  readonly disks: number
  readonly synced: number
  /** By the owner: hosts tell of what they copy themselves. */
  readonly copiedBytes: number
  readonly sinceMs: number
  /** By all; absent: not known yet. */
  readonly totalBytes?: number
  /** What keeps it from being done, of what the owner copies; absent: nothing. */
  readonly why?: string
}

/** Null: no leg is catching up. */
export function syncProgress(state: OwnerState, work: OwnerSync | null): SyncProgress | null {
  const { sync, metadata } = state
  if (sync === null) return null
  const ids = [...metadata.disks.keys()]
  const total = bytesToSync(state)
  return {
    done: isSynced(state),
    disks: ids.length,
    synced: ids.filter(id => sync.synced.has(id)).length,
    copiedBytes: work?.copiedBytes ?? 0,
    sinceMs: work?.sinceMs ?? 0,
    ...(total === null ? {} : { totalBytes: total }),
    ...(work?.why == null ? {} : { why: work.why }),
  }
}

export class OwnerSync {
  readonly #options: OwnerSyncOptions
  #ended = false
  #wake: (() => void) | null = null
  #work: Promise<void> = Promise.resolve()
  copiedBytes = 0
  readonly #startedAt: number
  /** Disk → what of it could not be read, and until when it is not tried again. */
  readonly #unreadable = new Map<string, { readonly blocks: readonly number[]; readonly until: number }>()

  constructor(options: OwnerSyncOptions) {
    this.#options = options
    this.#startedAt = options.env.clock.now()
  }

  get sinceMs(): number {
    return Math.max(0, this.#options.env.clock.now() - this.#startedAt)
  }

  /** What keeps it from ending; null: nothing. */
  get why(): string | null {
    const { disks } = this.#options.state.metadata
    for (const [id, { blocks }] of this.#unreadable) if (disks.has(id)) return `${id}: ${unreadableText(blocks)}`
    return null
  }

  start(): void {
    this.#work = this.#run()
  }

  /** Who holds what has changed. */
  wake(): void {
    this.#wake?.()
  }

  async stop(): Promise<void> {
    this.#ended = true
    this.#wake?.()
    await this.#work
  }

  async #run(): Promise<void> {
    const { state, env } = this.#options
    while (!this.#ended) {
      const rests = (id: string): boolean => env.clock.now() < (this.#unreadable.get(id)?.until ?? 0)
      const disk = nextDetached(state, rests)
      if (disk === null) {
        // Also when all is copied: of a host that dies more may be missed than was thought.
        await this.#sleep(nextDetached(state) === null ? null : UNREADABLE_RETRY_MS)
        continue
      }
      try {
        await this.#copyDisk(disk.id)
      } catch (error) {
        if (this.#ended) return
        env.log.warn({ disk: disk.id }, `its regions could not be copied to the leg: ${errorMessage(error)}`)
        await this.#pause(RETRY_MS)
      }
    }
  }

  async #copyDisk(id: string): Promise<void> {
    const { state, legs, news, bytesPerSecond, env } = this.#options
    const { layout, disks } = state.metadata
    const { sync } = state
    if (sync === null) return
    let done = 0
    const unreadable: number[] = []
    for (;;) {
      const disk = disks.get(id)
      if (this.#ended || disk === undefined || disk.holder !== null || disk.reserved !== null) return
      // From here on, in the same turn, whoever wants it waits.
      sync.copying.add(id)
      try {
        if (done === 0 && sync.behind !== null) {
          const found = await readStale(
            legs[0]!.device,
            slotAddresses(layout),
            sync.behind,
            layout.volumeId,
            regionCount(layout),
          )
          for (const region of found) sync.missed.add(region)
        }
        const regions = regionsOf(layout, planAll(layout, sync, disk))
        const part = regions.slice(done, done + REGIONS_AT_ONCE)
        for (const region of part) {
          if (this.#ended) return
          const startedAt = env.clock.now()
          const address = region * layout.regionBytes
          unreadable.push(...(await copyRange(legs, 1, address, layout.regionBytes)))
          this.copiedBytes += layout.regionBytes
          const left = (layout.regionBytes / bytesPerSecond()) * 1_000 - (env.clock.now() - startedAt)
          if (left > 0) await this.#pause(left)
        }
        done += part.length
        if (done >= regions.length) {
          this.#copied(id, unreadable)
          return
        }
      } finally {
        sync.copying.delete(id)
        news()
      }
      // Whoever waits for the disk has its turn.
      await this.#pause(1)
    }
  }

  /** What cannot be read there the leg misses still: it would be taken for right once it counts. */
  #copied(id: string, unreadable: readonly number[]): void {
    this.#unreadable.delete(id)
    if (unreadable.length === 0) this.#options.state.sync?.synced.add(id)
    else this.#unreadable.set(id, { blocks: unreadable, until: this.#options.env.clock.now() + UNREADABLE_RETRY_MS })
  }

  /** Until it is woken, or for so long. */
  #sleep(ms: number | null): Promise<void> {
    return new Promise(resolve => {
      const timer = ms === null ? null : this.#options.env.timers.after(ms, () => this.#wake?.())
      this.#wake = () => {
        timer?.cancel()
        this.#wake = null
        resolve()
      }
    })
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => this.#options.env.timers.after(ms, resolve))
  }
}

type Sync = NonNullable<OwnerState['sync']>

function planAll(layout: Layout, sync: Sync, disk: Parameters<typeof planPage>[2]): number[] {
  const ranges: number[] = []
  for (let from: number | null = 0; from !== null; ) {
    const page = planPage(layout, sync, disk, from)
    ranges.push(...page.ranges)
    from = page.next
  }
  return ranges
}

function regionsOf(layout: Layout, ranges: readonly number[]): number[] {
  const regions: number[] = []
  for (let i = 0; i + 1 < ranges.length; i += 2) {
    const first = ranges[i]! / layout.regionBytes
    const count = ranges[i + 1]! / layout.regionBytes
    for (let region = first; region < first + count; region += 1) regions.push(region)
  }
  return regions
}
