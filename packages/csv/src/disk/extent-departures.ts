// Which extents are leaving a disk, or have left it: whoever copies what a leg misses must not write to one that is another's by
// then (rule MIR1). The owner's word of it comes late: it has given the extent away, and another host may write there already.
// So an extent is on its way from before the owner is asked, and the owner is asked only when nothing is being copied there any
// more. What has left is known by when: a plan that was made later is about the extent as it is now.

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

export class ExtentDepartures {
  readonly #geometry: Geometry
  readonly #copying: Copying
  /** Extent → how often it is leaving at the moment: by a trim, by a question to the owner. */
  readonly #leaving = new Map<number, number>()
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
    for (const extent of extents) this.#leaving.set(extent, (this.#leaving.get(extent) ?? 0) + 1)
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
    const leaving = (this.#leaving.get(extent) ?? 0) - 1
    if (leaving > 0) this.#leaving.set(extent, leaving)
    else this.#leaving.delete(extent)
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
