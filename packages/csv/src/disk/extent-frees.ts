// Gives whole extents back that a trim made useless. The order is what keeps others' data safe: the mapping is dropped,
// what was in flight there ends, and what is being copied there, the marks there are cleared, and only then is the owner told. A write to such an index
// waits for the owner's word; a read gets zeroes, which is what the trim had put there before.

import { MAX_EXTENTS_PER_REQUEST } from '@stellwerk/protocol/messages/volume.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { VolumeReply } from '../owner/request.ts'
import type { ExtentDepartures } from './extent-departures.ts'
import type { ExtentMap } from './extent-map.ts'

export interface FreeingHost {
  readonly map: ExtentMap
  /** Resolves when all I/O that began before is done. */
  grace(): Promise<void>
  readonly departures: ExtentDepartures
  /** Clears the marks in these extents, durably. */
  clearMarks(extents: ReadonlySet<number>): Promise<void>
  free(runs: number[]): Promise<VolumeReply<'volume.free'>>
  /** The marks could not be cleared: nothing is given back now. */
  kept(error: unknown): void
  /** The owner said for good that this disk is not ours. */
  refused(error: unknown): void
}

interface Dropped {
  readonly index: number
  readonly extent: number
  readonly version: number
  readonly over: Promise<void>
  readonly resolve: () => void
}

export class ExtentFrees {
  readonly #host: FreeingHost
  readonly #dropped = new Map<number, Dropped>()
  #queue: Dropped[] = []
  #work: Promise<void> | null = null
  /** Set: what was on its way back may still be the disk's, for all its owner knows. */
  failure: unknown = null

  constructor(host: FreeingHost) {
    this.#host = host
  }

  /** Indexes whose extents are on their way back. */
  get size(): number {
    return this.#dropped.size
  }

  /** Null unless the index is being freed: then what to wait for before it may be asked for anew. */
  pending(index: number): Promise<void> | null {
    return this.#dropped.get(index)?.over ?? null
  }

  /** The index must be mapped and its extent read as zeroes. */
  drop(index: number): void {
    const { map } = this.#host
    const { promise, resolve } = Promise.withResolvers<void>()
    const dropped = { index, extent: map.extents[index]!, version: map.versionOf(index), over: promise, resolve }
    this.#host.departures.begin([dropped.extent])
    map.remove(index)
    this.#dropped.set(index, dropped)
    this.#queue.push(dropped)
    this.#work ??= this.#run()
  }

  async idle(): Promise<void> {
    while (this.#work !== null) await this.#work
  }

  async #run(): Promise<void> {
    // One turn later: what one trim drops goes back together.
    await null
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, MAX_EXTENTS_PER_REQUEST)
      const freed = await this.#giveBack(batch)
      for (const { index, extent, version, resolve } of batch) {
        // Kept: and there may have been a barrier meanwhile, at which the owner had it in the disk's map.
        if (!freed) this.#host.map.add([index, extent, 1, version], [index, 1])
        this.#dropped.delete(index)
        this.#host.departures.over(extent, freed)
        resolve()
      }
    }
    this.#work = null
  }

  /** False: they stay ours, and are mapped again. */
  async #giveBack(batch: readonly Dropped[]): Promise<boolean> {
    try {
      if (!canary('freed-extent-before-drain')) {
        await this.#host.grace()
        await this.#host.departures.settled(batch.map(({ extent }) => extent))
        await this.#host.clearMarks(new Set(batch.map(({ extent }) => extent)))
      }
    } catch (error) {
      // Giving back is a favour: an extent whose marks can't be cleared is kept.
      this.#host.kept(error)
      return false
    }
    try {
      const { mapVersion } = await this.#host.free(batch.flatMap(d => [d.index, d.extent, 1, d.version]))
      this.#host.map.version = Math.max(this.#host.map.version, mapVersion)
      return true
    } catch (error) {
      if (errorCode(error) === 'disk-switching') return false
      // The disk is not ours any more, and who waits to write must not find the extent again.
      this.failure = error
      this.#host.refused(error)
      return true
    }
  }
}
