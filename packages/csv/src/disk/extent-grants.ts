// Gets extents for a disk's unmapped indexes: all who need the same index wait together, indexes needed together go in one
// question, and a writer that goes through the disk in order is granted some ahead.

import { MAX_EXTENTS_PER_REQUEST } from '@stellwerk/protocol/messages/volume.ts'
import type { VolumeBody, VolumeReply } from '../owner/request.ts'
import type { ExtentMap } from './extent-map.ts'

/** Indexes asked for ahead of a writer that goes in order. */
const GRANT_AHEAD = 4

type Question = Pick<VolumeBody<'volume.allocate'>, 'indexes' | 'ahead'>

interface Wanted {
  readonly index: number
  readonly granted: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class ExtentGrants {
  readonly #map: ExtentMap
  readonly #ask: (question: Question) => Promise<VolumeReply<'volume.allocate'>>
  readonly #wanted = new Map<number, Wanted>()
  #queue: Wanted[] = []
  #asking = false
  #last = -2

  constructor(map: ExtentMap, ask: (question: Question) => Promise<VolumeReply<'volume.allocate'>>) {
    this.#map = map
    this.#ask = ask
  }

  /** Resolves when the index is mapped. */
  want(index: number): Promise<void> {
    const same = this.#wanted.get(index)
    if (same !== undefined) return same.granted
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const wanted = { index, granted: promise, resolve, reject }
    this.#wanted.set(index, wanted)
    this.#queue.push(wanted)
    if (!this.#asking) void this.#work()
    return promise
  }

  async #work(): Promise<void> {
    this.#asking = true
    // One turn later: what is wanted together is asked for together.
    await null
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, MAX_EXTENTS_PER_REQUEST)
      const indexes = batch.map(wanted => wanted.index)
      try {
        const { barriers } = this.#map
        const { runs, shared, mapVersion } = await this.#ask({ indexes, ahead: this.#ahead(indexes) })
        this.#map.addAsked(runs, shared, barriers)
        this.#map.version = Math.max(this.#map.version, mapVersion)
        for (const wanted of batch) {
          this.#wanted.delete(wanted.index)
          wanted.resolve()
        }
      } catch (error) {
        for (const wanted of batch) {
          this.#wanted.delete(wanted.index)
          wanted.reject(error)
        }
      }
    }
    this.#asking = false
  }

  #ahead(indexes: readonly number[]): number[] {
    const highest = Math.max(...indexes)
    const inOrder = indexes.some(index => index === this.#last + 1)
    this.#last = highest
    const ahead: number[] = []
    if (!inOrder) return ahead
    for (let index = highest + 1; index < this.#map.count && ahead.length < GRANT_AHEAD; index += 1) {
      if (this.#map.extents[index]! < 0) ahead.push(index)
    }
    return ahead
  }
}
