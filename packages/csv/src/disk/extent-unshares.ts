// Gets extents of its own for indexes of a disk whose extents are shared, or may be since a barrier: all who want to write to
// the same index wait together, and indexes wanted together go in one question. Reads go on meanwhile.

import { MAX_EXTENTS_PER_REQUEST } from '@stellwerk/protocol/messages/volume.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { VolumeReply } from '../owner/request.ts'
import type { ExtentDepartures } from './extent-departures.ts'
import type { ExtentMap } from './extent-map.ts'
import type { Attempt } from './owner-asker.ts'

interface Wanted {
  readonly index: number
  readonly answered: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** The owner is asked until it answers; `attempt` stands around each try. */
type Ask = (indexes: number[], attempt: Attempt) => Promise<VolumeReply<'volume.unshare'>>

export class ExtentUnshares {
  readonly #map: ExtentMap
  readonly #departures: ExtentDepartures
  readonly #ask: Ask
  readonly #wanted = new Map<number, Wanted>()
  #asking: Promise<void> | null = null

  constructor(map: ExtentMap, departures: ExtentDepartures, ask: Ask) {
    this.#map = map
    this.#departures = departures
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
    const extents = batch.map(({ index }) => this.#map.extents[index] ?? -1).filter(extent => extent >= 0)
    let isLeaving = false
    const attempt: Attempt = async ask => {
      if (!isLeaving) this.#departures.begin(extents)
      isLeaving = true
      await this.#departures.settled(extents)
      try {
        return await ask()
      } catch (error) {
        // While there is no room nothing leaves: what is copied there need not wait for somebody to make some.
        if (errorCode(error) === 'volume-full') stay()
        throw error
      }
    }
    const stay = (): void => {
      if (isLeaving) this.#departures.over(extents)
      isLeaving = false
    }
    try {
      const { runs, mapVersion } = await this.#ask(
        batch.map(({ index }) => index),
        attempt,
      )
      this.#map.addAsked(runs, [], barriers)
      this.#map.version = Math.max(this.#map.version, mapVersion)
      stay()
      for (const wanted of batch) this.#over(wanted).resolve()
    } catch (error) {
      stay()
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
