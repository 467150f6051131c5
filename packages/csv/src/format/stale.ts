// Stale sectors: which regions a leg has missed, per slot and leg. Each sector stands for itself, and is worth something
// only with the tag of the leg's last in-sync generation: once the leg has been in sync again, its tag is another.

import { getText, getU64, setText, setU64, viewOf } from './bytes.ts'
import type { Sealer } from './checksum.ts'
import { isZero } from './device-io.ts'
import { SECTOR_BYTES, SLOT_STALE_OFFSET, STALE_BITS_PER_SECTOR, STALE_SECTOR, staleAreaBytes } from './layout.ts'
import { STALE_MAGIC } from './slot.ts'

/** How a leg's last in-sync generation is written into a sector. */
export function staleTag(lastInSync: number): string {
  return String(lastInSync)
}

export function staleAreaAddress(slotAddress: number, legIndex: number, regions: number): number {
  return slotAddress + SLOT_STALE_OFFSET + legIndex * staleAreaBytes(regions)
}

export interface StaleSector {
  readonly tag: string
  readonly sequence: number
  /** As many as STALE_BITS_PER_SECTOR, lowest first. */
  readonly bits: Uint8Array
}

/** Null: empty; `damaged`: it may have marked anything. */
export function decodeStaleSector(sector: Uint8Array, sealer: Sealer, address: number): StaleSector | null | 'damaged' {
  if (isZero(sector)) return null
  const view = viewOf(sector)
  if (view.getUint32(STALE_SECTOR.magic.offset, true) !== STALE_MAGIC) return 'damaged'
  if (!sealer.isSealed(address, sector, STALE_SECTOR.crc.offset)) return 'damaged'
  const { offset, length } = STALE_SECTOR.bits
  return {
    tag: getText(sector, STALE_SECTOR.generation.offset, STALE_SECTOR.generation.length),
    sequence: getU64(view, STALE_SECTOR.sequence.offset),
    bits: sector.slice(offset, offset + length),
  }
}

export function encodeStaleSector(target: Uint8Array, sector: StaleSector, sealer: Sealer, address: number): void {
  target.fill(0)
  const view = viewOf(target)
  view.setUint32(STALE_SECTOR.magic.offset, STALE_MAGIC, true)
  setU64(view, STALE_SECTOR.sequence.offset, sector.sequence)
  setText(target, STALE_SECTOR.generation.offset, STALE_SECTOR.generation.length, sector.tag)
  target.set(sector.bits, STALE_SECTOR.bits.offset)
  sealer.seal(address, target, STALE_SECTOR.crc.offset)
}

/** Adds to `regions` what a leg's area in one slot marks under this tag. A damaged sector marks all that it could. */
export function collectStale(
  area: Uint8Array,
  address: number,
  tag: string,
  sealer: Sealer,
  regions: Set<number>,
  regionCount: number,
): void {
  for (let at = 0; at < area.length; at += SECTOR_BYTES) {
    const first = (at / SECTOR_BYTES) * STALE_BITS_PER_SECTOR
    if (first >= regionCount) return
    const sector = decodeStaleSector(area.subarray(at, at + SECTOR_BYTES), sealer, address + at)
    if (sector === null || (sector !== 'damaged' && sector.tag !== tag)) continue
    const last = Math.min(first + STALE_BITS_PER_SECTOR, regionCount)
    for (let region = first; region < last; region += 1) {
      if (sector === 'damaged' || isSet(sector.bits, region - first)) regions.add(region)
    }
  }
}

export function isSet(bits: Uint8Array, index: number): boolean {
  return (bits[index >> 3]! & (1 << (index & 7))) !== 0
}
