// Writes down which regions a leg misses, in one slot's stale bitmaps. Marks are only added: they are void, all at once,
// when the leg has been in sync in a newer generation.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import { Sealer } from '../format/checksum.ts'
import { type Leg, readWhatCan, SPARED_IO, writeBytes, writeLegs } from '../format/device-io.ts'
import { BLOCK_BYTES, SECTOR_BYTES, STALE_BITS_PER_SECTOR, STALE_SECTOR, staleAreaBytes } from '../format/layout.ts'
import {
  collectStale,
  decodeStaleSector,
  encodeStaleSector,
  isSet,
  staleAreaAddress,
  staleTag,
} from '../format/stale.ts'

const STALE_IO: Io = { origin: 'stale-log', deadlineAt: null }

export interface StaleLogOptions {
  readonly volumeId: string
  readonly slotOffset: number
  readonly regionCount: number
  /** Where it is read from: an in-sync leg, or the mirror. */
  readonly source: BlockDevice
  readonly readIo: Io
  /** Durable, on every leg that must have it, when it resolves. */
  readonly write: (offset: number, bytes: Uint8Array) => Promise<void>
}

/** Which leg's marks, and in which bitmap's generation they count. */
export interface StaleLeg {
  readonly index: number
  readonly lastInSync: number
}

export class StaleLog {
  readonly #options: StaleLogOptions
  readonly #sealer: Sealer
  /** By leg's index: its area as it is, or is being made, on the volume. Read when it is needed first. */
  readonly #areas = new Map<number, Uint8Array>()
  /** One write at a time: two of one block must not overtake each other. */
  #writing: Promise<void> = Promise.resolve()

  constructor(options: StaleLogOptions) {
    this.#options = options
    this.#sealer = new Sealer(options.volumeId)
  }

  /** Durable when it resolves. */
  mark(leg: StaleLeg, regions: Iterable<number>): Promise<void> {
    const wanted = [...regions]
    const done = this.#writing.then(() => this.#mark(leg, wanted))
    // Its failure is its caller's; the next in line is not concerned.
    this.#writing = done.then(
      () => undefined,
      () => undefined,
    )
    return done
  }

  async #mark({ index, lastInSync }: StaleLeg, regions: readonly number[]): Promise<void> {
    const { slotOffset, regionCount, write } = this.#options
    const address = staleAreaAddress(slotOffset, index, regionCount)
    const area = await this.#area(index)
    const tag = staleTag(lastInSync)
    const blocks = new Set<number>()
    for (const [number, bits] of bySector(regions, regionCount)) {
      const at = number * SECTOR_BYTES
      const bytes = area.subarray(at, at + SECTOR_BYTES)
      const found = decodeStaleSector(bytes, this.#sealer, address + at)
      const known = found !== null && found !== 'damaged' && found.tag === tag ? found : null
      const next = known?.bits ?? new Uint8Array(STALE_SECTOR.bits.length)
      // What a damaged sector marked is not known: all of it, then.
      if (found === 'damaged') next.fill(0xff)
      else if (known !== null && bits.every(bit => isSet(next, bit))) continue
      for (const bit of bits) next[bit >> 3]! |= 1 << (bit & 7)
      const sequence = found !== null && found !== 'damaged' ? found.sequence + 1 : 1
      encodeStaleSector(bytes, { tag, sequence, bits: next }, this.#sealer, address + at)
      blocks.add(Math.floor(at / BLOCK_BYTES))
    }
    try {
      for (const block of [...blocks].sort((a, b) => a - b)) {
        await write(address + block * BLOCK_BYTES, area.slice(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES))
      }
    } catch (error) {
      // What stands there now is not known: it is read again when it is needed.
      this.#areas.delete(index)
      throw error
    }
  }

  async #area(index: number): Promise<Uint8Array> {
    const known = this.#areas.get(index)
    if (known !== undefined) return known
    const { source, readIo, slotOffset, regionCount } = this.#options
    const address = staleAreaAddress(slotOffset, index, regionCount)
    const area = await readArea(source, address, regionCount, readIo)
    this.#areas.set(index, area)
    return area
  }
}

/** Of the owner's slot, or of a host's that is surely gone: on raw legs. */
export function staleLogOn(
  legs: readonly Leg[],
  options: Pick<StaleLogOptions, 'volumeId' | 'slotOffset' | 'regionCount'>,
): StaleLog {
  assert(legs.length > 0, 'a stale bitmap without a leg to stand on')
  return new StaleLog({
    ...options,
    source: legs[0]!.device,
    readIo: SPARED_IO,
    write: (offset, bytes) => writeLegs(legs, offset, bytes, STALE_IO),
  })
}

/** Of a host's own slot, through its mirror. */
export function staleLogThrough(
  device: BlockDevice,
  options: Pick<StaleLogOptions, 'volumeId' | 'slotOffset' | 'regionCount'>,
): StaleLog {
  return new StaleLog({
    ...options,
    source: device,
    readIo: STALE_IO,
    write: (offset, bytes) => writeBytes(device, offset, bytes, STALE_IO),
  })
}

/** What all slots together say that a leg misses. `slots`: the addresses of those that count. */
export async function readStale(
  source: BlockDevice,
  slots: readonly number[],
  leg: StaleLeg,
  volumeId: string,
  regionCount: number,
): Promise<Set<number>> {
  const sealer = new Sealer(volumeId)
  const regions = new Set<number>()
  for (const slot of slots) {
    const address = staleAreaAddress(slot, leg.index, regionCount)
    const area = await readArea(source, address, regionCount, SPARED_IO)
    collectStale(area, address, staleTag(leg.lastInSync), sealer, regions, regionCount)
  }
  return regions
}

/** What cannot be read is made such as does not check out: it may have marked anything. */
async function readArea(source: BlockDevice, address: number, regionCount: number, io: Io): Promise<Uint8Array> {
  const { bytes, unreadable } = await readWhatCan(source, address, staleAreaBytes(regionCount), io)
  for (const at of unreadable) bytes.fill(0xff, at, at + BLOCK_BYTES)
  return bytes
}

function bySector(regions: readonly number[], regionCount: number): Map<number, number[]> {
  const sectors = new Map<number, number[]>()
  for (const region of regions) {
    assert(region >= 0 && region < regionCount, `region ${region} of ${regionCount}`)
    const number = Math.floor(region / STALE_BITS_PER_SECTOR)
    const bits = sectors.get(number)
    if (bits === undefined) sectors.set(number, [region % STALE_BITS_PER_SECTOR])
    else bits.push(region % STALE_BITS_PER_SECTOR)
  }
  return sectors
}
