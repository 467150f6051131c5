// Which extents are leaving a disk, or have left it: whoever copies what a leg misses must not write to one that is another's by
// then (rule MIR1), and nobody must read it as the disk's (rules IO1, CSV3). The owner's word of it comes late: it has given the extent away, and another host may write there already.
// So an extent is on its way from before the owner is asked, and the owner is asked only when nothing is being copied or read there
// any more. What has left is known by when: a plan that was made later is about the extent as it is now.

import type { HostView } from '@stellwerk/protocol/messages/volume.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { ExtentMap } from './extent-map.ts'

/** `gone`: it is another's. `later`: whether it is the owner is being asked. */
export type MayCopy = 'yes' | 'gone' | 'later'

type Geometry = Pick<HostView, 'regionBytes' | 'dataOffset' | 'extentBytes'>

export interface Copying {
  /** A leg is catching up: there may be plans. */
  readonly isUnderWay: () => boolean
  /** Resolves when nothing is being written by copying in the regions that are meant. */
  readonly settled: (isMeant: (region: number) => boolean) => Promise<void>
}

interface Leaving {
  readonly times: number
  readonly waiters: PromiseWithResolvers<void>[]
}

export class ExtentDepartures {
  readonly #geometry: Geometry
  readonly #copying: Copying
  /** Extents that are leaving at the moment: by a trim, by a question to the owner. */
  readonly #leaving = new Map<number, Leaving>()
  #abandoned: Error | null = null
  /** Extent → which departure it was. */
  readonly #gone = new Map<number, number>()
  #count = 0

  constructor(map: Pick<ExtentMap, 'onArrival'>, geometry: Geometry, copying: Copying) {
    this.#geometry = geometry
    this.#copying = copying
    map.onArrival = extent => this.#gone.delete(extent)
  }

  /** How many there have been. */
  get count(): number {
    return this.#count
  }

  /** Of a region by a plan that was asked for after so many departures. */
  mayCopy(region: number, since: number): MayCopy {
    if (canary('departed-extent-copied')) return 'yes'
    const extent = this.#extentOf(region)
    if (this.#leaving.has(extent)) return 'later'
    return (this.#gone.get(extent) ?? 0) > since ? 'gone' : 'yes'
  }

  /** They may leave: from the call on nothing new is copied there, until `over`. */
  begin(extents: Iterable<number>): void {
    for (const extent of extents) {
      const leaving = this.#leaving.get(extent) ?? { times: 0, waiters: [] }
      this.#leaving.set(extent, { ...leaving, times: leaving.times + 1 })
    }
  }

  /** What is there may be another's by now: it is not read. */
  isLeaving(extent: number): boolean {
    return this.#leaving.size > 0 && this.#leaving.has(extent) && !canary('departing-extent-read')
  }

  /** Resolves when it is known whether the extent has left. Rejects when the disk ends before. */
  async known(extent: number): Promise<void> {
    if (this.#abandoned !== null) throw this.#abandoned
    const leaving = this.#leaving.get(extent)
    if (leaving === undefined) return
    const waiter = Promise.withResolvers<void>()
    leaving.waiters.push(waiter)
    await waiter.promise
  }

  /** The disk ends: nobody waits any more. */
  abandon(error: Error): void {
    this.#abandoned ??= error
    for (const { waiters } of this.#leaving.values()) for (const { reject } of waiters.splice(0)) reject(error)
  }

  /** Resolves when nothing that was begun before is being copied there: the owner may be told. */
  async settled(extents: Iterable<number>): Promise<void> {
    const meant = new Set(extents)
    if (!canary('departed-extent-copied')) await this.#copying.settled(region => meant.has(this.#extentOf(region)))
  }

  /** Once for each `begin`. Without it whether it has left is not known, and nothing is copied there while the disk is here. */
  over(extent: number, hasLeft: boolean): void {
    if (hasLeft) {
      this.#count += 1
      // Plans that are made later know of it.
      if (this.#copying.isUnderWay()) this.#gone.set(extent, this.#count)
    }
    const leaving = this.#leaving.get(extent)
    if (leaving === undefined) return
    if (leaving.times > 1) {
      this.#leaving.set(extent, { ...leaving, times: leaving.times - 1 })
      return
    }
    this.#leaving.delete(extent)
    for (const { resolve } of leaving.waiters) resolve()
  }

  /** Another generation: its plans are still to be made. */
  forget(): void {
    this.#gone.clear()
  }

  #extentOf(region: number): number {
    const { regionBytes, dataOffset, extentBytes } = this.#geometry
    return Math.floor((region * regionBytes - dataOffset) / extentBytes)
  }
}
