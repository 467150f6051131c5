// Gets extents of its own for indexes of a disk whose extents are shared, or may be since a barrier: all who want to write to
// the same index wait together, and indexes wanted together go in one question. Reads there wait for the answer, too: the owner may
// have given the extent to another before its word is here.

import { MAX_EXTENTS_PER_REQUEST } from '@stellwerk/protocol/messages/volume.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { VolumeBody, VolumeReply } from '../owner/request.ts'
import type { ExtentDepartures } from './extent-departures.ts'
import type { ExtentMap } from './extent-map.ts'
import { type Attempt, isNothingUnshared } from './owner-asker.ts'

interface Wanted {
  readonly index: number
  readonly answered: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

type Question = Pick<VolumeBody<'volume.unshare'>, 'indexes' | 'extents' | 'mapVersion'>

/** The owner is asked until it answers; `attempt` stands around each try, whose question it is. */
type Ask = (question: () => Question, attempt: Attempt) => Promise<VolumeReply<'volume.unshare'>>

export class ExtentUnshares {
  readonly #map: ExtentMap
  readonly #departures: ExtentDepartures
  readonly #grace: () => Promise<void>
  readonly #ask: Ask
  readonly #wanted = new Map<number, Wanted>()
  #asking: Promise<void> | null = null

  /** `grace` resolves when all I/O that began before is done. */
  constructor(map: ExtentMap, departures: ExtentDepartures, grace: () => Promise<void>, ask: Ask) {
    this.#map = map
    this.#grace = grace
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
    const mapped = batch.filter(({ index }) => this.#map.extents[index]! >= 0)
    const indexes = mapped.map(({ index }) => index)
    const extents = indexes.map(index => this.#map.extents[index]!)
    const leaving = new Leaving(this.#map, this.#departures, this.#grace, indexes, extents)
    try {
      const { runs, shared, mapVersion } = await this.#ask(
        () => ({ indexes, extents, mapVersion: this.#map.version }),
        ask => leaving.attempt(ask),
      )
      this.#map.addAsked(runs, shared, barriers)
      this.#map.version = Math.max(this.#map.version, mapVersion)
      leaving.answered()
      for (const wanted of batch) this.#over(wanted).resolve()
    } catch (error) {
      leaving.refused()
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

/** What one question may have leave: it is neither copied nor read from a try on until it is known whether it has left. */
class Leaving {
  readonly #map: ExtentMap
  readonly #departures: ExtentDepartures
  readonly #grace: () => Promise<void>
  readonly #indexes: readonly number[]
  /** What is there, one each. */
  readonly #extents: readonly number[]
  #isAsked = false
  /** An earlier try may have been obeyed, or may yet be. */
  #isUncertain = false

  constructor(
    map: ExtentMap,
    departures: ExtentDepartures,
    grace: () => Promise<void>,
    indexes: readonly number[],
    extents: readonly number[],
  ) {
    this.#map = map
    this.#grace = grace
    this.#departures = departures
    this.#indexes = indexes
    this.#extents = extents
  }

  async attempt<T>(ask: () => Promise<T>): Promise<T> {
    const extents = this.#extents
    if (!this.#isAsked) this.#departures.begin(extents)
    this.#isAsked = true
    await this.#departures.settled(extents)
    // What was read before is the disk's; from here on who reads there waits.
    await this.#grace()
    try {
      return await ask()
    } catch (error) {
      const code = errorCode(error)
      // Between two tries nothing leaves, if nothing was done: who copies or reads there need not wait for an owner, or for room.
      if (isNothingUnshared(code)) this.refused()
      else this.#isUncertain = true
      throw error
    }
  }

  answered(): void {
    this.#isUncertain = false
    for (const [i, index] of this.#indexes.entries()) {
      const extent = this.#extents[i]!
      this.#departures.over(extent, this.#map.extents[index] !== extent)
    }
    this.#isAsked = false
  }

  /** They stay, unless that is not known: then they are not copied any more while this host has the disk. */
  refused(): void {
    if (!this.#isAsked || this.#isUncertain) return
    for (const extent of this.#extents) this.#departures.over(extent, false)
    this.#isAsked = false
  }
}
