// Gets extents of its own for indexes of a disk whose extents are shared, or may be since a barrier: all who want to write to
// the same index wait together, and indexes wanted together go in one question. Reads go on meanwhile.

import { MAX_EXTENTS_PER_REQUEST } from '@stellwerk/protocol/messages/volume.ts'
import type { VolumeReply } from '../owner/request.ts'
import type { ExtentMap } from './extent-map.ts'

interface Wanted {
  readonly index: number
  readonly answered: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class ExtentUnshares {
  readonly #map: ExtentMap
  readonly #ask: (indexes: number[]) => Promise<VolumeReply<'volume.unshare'>>
  readonly #wanted = new Map<number, Wanted>()
  #asking: Promise<void> | null = null

  constructor(map: ExtentMap, ask: (indexes: number[]) => Promise<VolumeReply<'volume.unshare'>>) {
    this.#map = map
    this.#ask = ask
  }

  /** Resolves when the owner has answered; the index is looked up again then, for it may be another barrier's already. */
  want(index: number): Promise<void> {
    const same = this.#wanted.get(index)
    if (same !== undefined) return same.answered
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#wanted.set(index, { index, answered: promise, resolve, reject })
    this.#asking ??= this.#work()
    return promise
  }

  /** Nothing is asked for. */
  async idle(): Promise<void> {
    while (this.#asking !== null) await this.#asking
  }

  async #work(): Promise<void> {
    // One turn later: what is wanted together is asked for together.
    await null
    while (this.#wanted.size > 0) await this.#askFor([...this.#wanted.values()].slice(0, MAX_EXTENTS_PER_REQUEST))
    this.#asking = null
  }

  async #askFor(batch: readonly Wanted[]): Promise<void> {
    const { barriers } = this.#map
    try {
      const { runs, mapVersion } = await this.#ask(batch.map(({ index }) => index))
      this.#map.addAsked(runs, [], barriers)
      this.#map.version = Math.max(this.#map.version, mapVersion)
      for (const wanted of batch) this.#over(wanted).resolve()
    } catch (error) {
      // One that cannot be copied is no error to those that were asked for with it.
      if (batch.length > 1) for (const wanted of batch) await this.#askFor([wanted])
      else for (const wanted of batch) this.#over(wanted).reject(error)
    }
  }

  #over(wanted: Wanted): Wanted {
    this.#wanted.delete(wanted.index)
    return wanted
  }
}
