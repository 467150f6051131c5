// Which extents are leaving a disk, or have left it: whoever copies what a leg misses must not write to one that is another's by
// then (rule MIR1). The owner's word of it comes late: it has given the extent away, and another host may write there already.
// So an extent is on its way from before the owner is asked, and the owner is asked only when nothing is being copied there any
// more. What has left is known by when: a plan that was made later is about the extent as it is now.

import type { HostView } from '@stellwerk/protocol/messages/volume.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { ExtentMap } from './extent-map.ts'

/** `yes`; `gone`: it is another's; else to be asked again when the promise resolves. */
export type MayCopy = 'yes' | 'gone' | Promise<void>

type Geometry = Pick<HostView, 'regionBytes' | 'dataOffset' | 'extentBytes'>

interface Leaving {
  count: number
  readonly over: PromiseWithResolvers<void>
}

export class ExtentDepartures {
  readonly #map: ExtentMap
  readonly #geometry: Geometry
  readonly #copied: (isMeant: (region: number) => boolean) => Promise<void>
  readonly #leaving = new Map<number, Leaving>()
  /** Extent → which departure it was. */
  readonly #gone = new Map<number, number>()
  #count = 0

  /** `copied`: resolves when nothing is being written by copying in the regions that are meant. */
  constructor(map: ExtentMap, geometry: Geometry, copied: (isMeant: (region: number) => boolean) => Promise<void>) {
    this.#map = map
    this.#geometry = geometry
    this.#copied = copied
  }

  /** How many there have been. */
  get count(): number {
    return this.#count
  }

  /** Of a region by a plan that was asked for after so many departures. */
  mayCopy(region: number, since: number): MayCopy {
    if (canary('departed-extent-copied')) return 'yes'
    const extent = this.#extentOf(region)
    const leaving = this.#leaving.get(extent)
    if (leaving !== undefined) return leaving.over.promise
    const gone = this.#gone.get(extent)
    if (gone === undefined || gone <= since || this.#map.extents.includes(extent)) return 'yes'
    return 'gone'
  }

  /** They may leave: from the call on nothing new is copied there, until `over`. */
  begin(extents: Iterable<number>): void {
    for (const extent of extents) {
      const known = this.#leaving.get(extent)
      if (known !== undefined) known.count += 1
      else this.#leaving.set(extent, { count: 1, over: Promise.withResolvers() })
    }
  }

  /** Resolves when nothing that was begun before is being copied there: the owner may be told. */
  async settled(extents: Iterable<number>): Promise<void> {
    const meant = new Set(extents)
    if (!canary('departed-extent-copied')) await this.#copied(region => meant.has(this.#extentOf(region)))
  }

  /** Once for each `begin`; those that the disk does not have any more have left. */
  over(extents: Iterable<number>): void {
    for (const extent of extents) {
      if (!this.#map.extents.includes(extent)) this.#gone.set(extent, ++this.#count)
      const leaving = this.#leaving.get(extent)
      if (leaving === undefined) continue
      leaving.count -= 1
      if (leaving.count > 0) continue
      this.#leaving.delete(extent)
      leaving.over.resolve()
    }
  }

  #extentOf(region: number): number {
    const { regionBytes, dataOffset, extentBytes } = this.#geometry
    return Math.floor((region * regionBytes - dataOffset) / extentBytes)
  }
}
