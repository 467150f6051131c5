// A CSV disk of a cluster that is down, as a block device that is only read: its map out of the volume's metadata, its bytes
// out of the LUN. What was never written reads as zeroes.

import type { BlockExtent, Io } from '@stellwerk/block/device.ts'
import type { Leg } from '@stellwerk/csv/format/device-io.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import { furthest, type Loaded, loadLeg } from '@stellwerk/csv/owner/load.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { ReadOnlyDevice } from './read-only-device.ts'

const ZEROES = new Uint8Array(MIB)

/** Rejects with `unknown-disk`, or with what is wrong with the volume. */
export async function openStoppedDisk(legs: readonly Leg[], volume: string, name: string): Promise<StoppedDisk> {
  const loaded: Loaded[] = []
  for (const leg of legs) loaded.push(await loadLeg(leg, {}))
  const best = furthest(loaded)
  const disk = [...best.metadata.disks.values()].find(known => known.id === name || known.name === name)
  if (disk !== undefined) return new StoppedDisk(best, disk.sizeBytes, disk.map)
  const known = [...best.metadata.disks.values()].map(each => each.name).sort()
  throw new StellwerkError('unknown-disk', `there is no disk "${name}" on volume "${volume}"`, {
    hint: known.length === 0 ? 'it has no disks' : `it has ${known.join(', ')}`,
  })
}

export class StoppedDisk extends ReadOnlyDevice {
  readonly #loaded: Loaded
  readonly #map: ReadonlyMap<number, number>

  constructor(loaded: Loaded, sizeBytes: number, map: ReadonlyMap<number, number>) {
    super('the disk', sizeBytes, { blockStatus: true })
    this.#loaded = loaded
    this.#map = map
  }

  async read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    const parts: Uint8Array[] = []
    for (const { at, length: count, address } of this.#pieces(offset, length)) {
      if (address === null) parts.push(...zeroes(count))
      else parts.push(...(await this.#loaded.leg.device.read(address + at, count, io)))
    }
    return parts
  }

  blockStatus(offset: number, length: number): Promise<BlockExtent[]> {
    const extents = this.#pieces(offset, length).map(({ length: count, address }) => {
      return { length: count, hole: address === null, zero: address === null }
    })
    return Promise.resolve(extents)
  }

  /** The range by extents: where in the extent it begins, how long it is, where the extent lies (null: nowhere). */
  #pieces(offset: number, length: number): { at: number; length: number; address: number | null }[] {
    this.within(offset, length)
    const { layout } = this.#loaded
    const pieces = []
    for (let from = offset; from < offset + length; ) {
      const index = Math.floor(from / layout.extentBytes)
      const at = from - index * layout.extentBytes
      const count = Math.min(layout.extentBytes - at, offset + length - from)
      const extent = this.#map.get(index)
      pieces.push({ at, length: count, address: extent === undefined ? null : extentAddress(layout, extent) })
      from += count
    }
    return pieces
  }
}

function zeroes(length: number): Uint8Array[] {
  const parts: Uint8Array[] = []
  for (let left = length; left > 0; left -= ZEROES.length) parts.push(ZEROES.subarray(0, Math.min(left, ZEROES.length)))
  return parts
}
