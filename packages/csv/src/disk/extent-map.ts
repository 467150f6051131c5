// Where a disk's extents lie on the volume, as its host knows it: flat arrays, for a lookup on every request. Two of them:
// one to read by, and one to write by, in which what is shared, or may be, stands as if it were not mapped.

import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const UNMAPPED = -1

export class ExtentMap {
  /** Per index the extent, or -1. Read directly on the fast path. */
  extents: Int32Array
  /** Per index the extent that may be written in place, or -1: not mapped, or shared. Read directly on the fast path. */
  writable: Int32Array
  /** How often all of it has become shared: what was asked before and is answered after must not be written in place. */
  barriers = 0
  /** Told of each extent that comes into it. */
  onArrival: (extent: number) => void = () => undefined
  #versions: Float64Array
  /** The highest version heard of. */
  version: number
  #mapped = 0

  constructor(count: number, version: number) {
    this.extents = new Int32Array(count).fill(UNMAPPED)
    this.writable = new Int32Array(count).fill(UNMAPPED)
    this.#versions = new Float64Array(count)
    this.version = version
  }

  get count(): number {
    return this.extents.length
  }

  get mapped(): number {
    return this.#mapped
  }

  versionOf(index: number): number {
    return this.#versions[index]!
  }

  /** Takes runs as the owner gives them: index, extent, count, version; `shared`: first index, count. */
  add(runs: readonly number[], shared: readonly number[] = []): void {
    for (let i = 0; i + 3 < runs.length; i += 4) {
      const [index, extent, count, version] = [runs[i]!, runs[i + 1]!, runs[i + 2]!, runs[i + 3]!]
      for (let n = 0; n < count; n += 1) {
        assert(index + n < this.count, `a mapping of index ${index + n} in a disk of ${this.count} extents`)
        if (this.extents[index + n] === UNMAPPED) this.#mapped += 1
        this.extents[index + n] = extent + n
        this.writable[index + n] = extent + n
        this.#versions[index + n] = version
        this.onArrival(extent + n)
      }
    }
    if (canary('shared-extent-written-in-place')) return
    for (let i = 0; i + 1 < shared.length; i += 2) this.writable.fill(UNMAPPED, shared[i]!, shared[i]! + shared[i + 1]!)
  }

  /** Of an answer to something asked when `barriers` was so many. */
  addAsked(runs: readonly number[], shared: readonly number[], barriers: number): void {
    this.add(runs, barriers === this.barriers ? shared : indexesOf(runs))
  }

  /** Nothing of it is written in place any more: the owner says what may be. */
  shareAll(): void {
    this.barriers += 1
    if (!canary('in-place-write-after-barrier')) this.writable.fill(UNMAPPED)
  }

  isShared(index: number): boolean {
    return this.extents[index] !== UNMAPPED && this.writable[index] === UNMAPPED
  }

  remove(index: number): void {
    if (this.extents[index] === UNMAPPED) return
    this.extents[index] = UNMAPPED
    this.writable[index] = UNMAPPED
    this.#mapped -= 1
  }

  resize(count: number): void {
    const extents = new Int32Array(count).fill(UNMAPPED)
    extents.set(this.extents.subarray(0, count))
    const writable = new Int32Array(count).fill(UNMAPPED)
    writable.set(this.writable.subarray(0, count))
    const versions = new Float64Array(count)
    versions.set(this.#versions.subarray(0, count))
    this.extents = extents
    this.writable = writable
    this.#versions = versions
    this.#mapped = extents.reduce((sum, extent) => sum + (extent === UNMAPPED ? 0 : 1), 0)
  }

  runs(): number[] {
    const runs: number[] = []
    let last = -4
    for (let index = 0; index < this.count; index += 1) {
      const extent = this.extents[index]!
      if (extent === UNMAPPED) continue
      const version = this.#versions[index]!
      const count = runs[last + 2]!
      const joins =
        last >= 0 && runs[last]! + count === index && runs[last + 1]! + count === extent && runs[last + 3] === version
      if (joins) runs[last + 2] = count + 1
      else last = runs.push(index, extent, 1, version) - 4
    }
    return runs
  }

  /** First index and count, flat, of what is shared or may be. */
  shared(): number[] {
    const shared: number[] = []
    for (let index = 0; index < this.count; index += 1) {
      if (!this.isShared(index)) continue
      const last = shared.length - 2
      if (last >= 0 && shared[last]! + shared[last + 1]! === index) shared[last + 1]! += 1
      else shared.push(index, 1)
    }
    return shared
  }
}

function indexesOf(runs: readonly number[]): number[] {
  const indexes: number[] = []
  for (let i = 0; i + 3 < runs.length; i += 4) indexes.push(runs[i]!, runs[i + 2]!)
  return indexes
}

/** What the source of a migration gives the target in-band: the target needs no owner to go on with it. */
export interface Handover {
  readonly disk: string
  readonly volumeId: string
  readonly sizeBytes: number
  readonly mapVersion: number
  readonly readOnly: boolean
  readonly runs: readonly number[]
  readonly shared: readonly number[]
  /** The volume's, at the source: the target's mirror must serve in it, or in a later one. */
  readonly generation: number
}

/** Throws `bad-handover`. `onVolume`: the id of the volume that it must be on. */
export function parseHandover(value: Json, onVolume: string): Handover {
  const { disk, volumeId, sizeBytes, mapVersion, readOnly, runs, shared, generation } = (value ??
    {}) as Partial<Handover>
  const numbers = (list: unknown, group: number): boolean =>
    Array.isArray(list) &&
    list.length % group === 0 &&
    list.every(number => Number.isSafeInteger(number) && number >= 0)
  const good =
    typeof disk === 'string' &&
    typeof volumeId === 'string' &&
    Number.isSafeInteger(sizeBytes) &&
    Number.isSafeInteger(mapVersion) &&
    Number.isSafeInteger(generation) &&
    typeof readOnly === 'boolean' &&
    numbers(runs, 4) &&
    numbers(shared, 2)
  if (!good) {
    throw new StellwerkError('bad-handover', 'what the source handed over of a disk makes no sense', {
      ...(typeof disk === 'string' ? { where: disk } : {}),
    })
  }
  if (volumeId !== onVolume) {
    const message = `disk ${disk} is on volume ${volumeId}, not on ${onVolume}`
    throw new StellwerkError('bad-handover', message, { where: disk })
  }
  return {
    disk,
    volumeId,
    sizeBytes: sizeBytes!,
    mapVersion: mapVersion!,
    readOnly,
    runs: runs!,
    shared: shared!,
    generation: generation!,
  }
}
