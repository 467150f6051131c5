// What the checksums in a slot say of two copies that differ. Every sector stands for itself: a copy is bad when one of its
// sectors holds something that does not check out.

import type { Verdict } from '@stellwerk/block/mirror/scrub.ts'
import { viewOf } from '../format/bytes.ts'
import type { Sealer } from '../format/checksum.ts'
import { isZero } from '../format/device-io.ts'
import { INTENT_SECTOR, SECTOR_BYTES, SLOT_STALE_OFFSET, STALE_SECTOR } from '../format/layout.ts'
import { INTENT_MAGIC, STALE_MAGIC } from '../format/slot.ts'

/**
 * `atWork`: its host has the volume open, so that what it marks is on every leg. The marks of one that has not, and what a
 * leg missed while it was away, may stand on one leg only, and mean nothing while all are in sync.
 */
export function slotJudge(sealer: Sealer, slotAt: number, atWork: boolean) {
  return (offset: number, copies: readonly Uint8Array[]): Verdict => {
    const isIntent = offset < slotAt + SLOT_STALE_OFFSET
    const good = copies.flatMap((copy, i) => (checksOut(sealer, offset, copy, isIntent) ? [i] : []))
    if (good.length === 1) return good[0]!
    return !isIntent || (!atWork && good.length > 1) ? 'either' : null
  }
}

function checksOut(sealer: Sealer, offset: number, block: Uint8Array, isIntent: boolean): boolean {
  const magic = isIntent ? INTENT_MAGIC : STALE_MAGIC
  const field = isIntent ? INTENT_SECTOR.crc.offset : STALE_SECTOR.crc.offset
  for (let at = 0; at < block.length; at += SECTOR_BYTES) {
    const sector = block.subarray(at, at + SECTOR_BYTES)
    if (isZero(sector)) continue
    if (viewOf(sector).getUint32(0, true) !== magic || !sealer.isSealed(offset + at, sector, field)) return false
  }
  return true
}
