// Where a disk's extents lie on the volume, as its host knows it: flat arrays, for a lookup on every request.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const UNMAPPED = -1

export class ExtentMap {
  /** Per index the extent, or -1. Read directly on the fast path. */
  extents: Int32Array
  #versions: Float64Array
  /** The highest version heard of. */
  version: number
  #mapped = 0

  constructor(count: number, version: number) {
    this.extents = new Int32Array(count).fill(UNMAPPED)
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

  /** Takes runs as the owner gives them: index, extent, count, version. */
  add(runs: readonly number[]): void {
    for (let i = 0; i + 3 < runs.length; i += 4) {
      const [index, extent, count, version] = [runs[i]!, runs[i + 1]!, runs[i + 2]!, runs[i + 3]!]
      for (let n = 0; n < count; n += 1) {
        assert(index + n < this.count, `a mapping of index ${index + n} in a disk of ${this.count} extents`)
        if (this.extents[index + n] === UNMAPPED) this.#mapped += 1
        this.extents[index + n] = extent + n
        this.#versions[index + n] = version
      }
    }
  }

  remove(index: number): void {
    if (this.extents[index] === UNMAPPED) return
    this.extents[index] = UNMAPPED
    this.#mapped -= 1
  }

  resize(count: number): void {
    const extents = new Int32Array(count).fill(UNMAPPED)
    extents.set(this.extents.subarray(0, count))
    const versions = new Float64Array(count)
    versions.set(this.#versions.subarray(0, count))
    this.extents = extents
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
}

/** What the source of a migration gives the target in-band: the target needs no owner to go on with it. */
export interface Handover {
  readonly disk: string
  readonly volumeId: string
  readonly sizeBytes: number
  readonly mapVersion: number
  readonly runs: readonly number[]
  /** The volume's, at the source: the target's mirror must serve in it, or in a later one. */
  readonly generation: number
}

export function parseHandover(value: Json): Handover {
  const { disk, volumeId, sizeBytes, mapVersion, runs, generation } = (value ?? {}) as Partial<Handover>
  const good =
    typeof disk === 'string' &&
    typeof volumeId === 'string' &&
    Number.isSafeInteger(sizeBytes) &&
    Number.isSafeInteger(mapVersion) &&
    Number.isSafeInteger(generation) &&
    Array.isArray(runs) &&
    runs.length % 4 === 0 &&
    runs.every(number => Number.isSafeInteger(number) && number >= 0)
  if (!good) {
    throw new StellwerkError('bad-handover', 'what the source handed over of a disk makes no sense', {
      ...(typeof disk === 'string' ? { where: disk } : {}),
    })
  }
  return { disk, volumeId, sizeBytes: sizeBytes!, mapVersion: mapVersion!, runs, generation: generation! }
}
