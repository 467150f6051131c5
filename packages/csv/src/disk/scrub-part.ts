// A host's part of a scrub: parts of extents of a disk it has, and its own slot. To the disk it is a request in flight
// there: whatever waits for requests (draining, a barrier, a free) waits for it too, so that nobody else can get the extent
// while it is compared, or written anew, here.

import type { ScrubFinding } from '@stellwerk/block/mirror/scrub.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { Sealer } from '../format/checksum.ts'
import { BLOCK_BYTES, SLOT_INTENT_OFFSET, SLOT_STALE_OFFSET, staleAreaBytes } from '../format/layout.ts'
import { slotJudge } from '../mirror/slot-judge.ts'
import type { ExtentMap } from './extent-map.ts'
import type { HostVolume } from './host-volume.ts'
import type { RequestGate } from './request-gate.ts'

export interface ScrubPart {
  readonly index: number
  readonly extent: number
  /** Within the extent. */
  readonly offset: number
  readonly length: number
  readonly goodLeg: string | null
}

/** Null: the disk does not have that extent there. */
export async function scrubPart(
  { options: { mirror }, view, intent }: HostVolume,
  map: ExtentMap,
  gate: RequestGate,
  { index, extent, offset, length, goodLeg }: ScrubPart,
): Promise<ScrubFinding[] | null> {
  const { extentBytes, dataOffset, regionBytes } = view
  if (offset + length > extentBytes || offset % BLOCK_BYTES !== 0 || length % BLOCK_BYTES !== 0) {
    throw new StellwerkError('bad-range', `${length} bytes at ${offset} are no part of an extent of ${extentBytes}`)
  }
  if (mirror === undefined) throw new StellwerkError('not-mirrored', `volume "${view.volume}" has one leg`)
  if (gate.isShut) {
    throw new StellwerkError('disk-switching', 'the disk is being drained', { retryable: true, hint: 'try again' })
  }
  if (index >= map.count || map.extents[index] !== extent) return null
  const address = dataOffset + extent * extentBytes + offset
  const first = Math.floor(address / regionBytes)
  const last = Math.floor((address + length - 1) / regionBytes)
  const generation = gate.enter()
  try {
    // A write of unknown outcome there is made equal by who wrote it.
    intent.refuseUncertain(region => region >= first && region <= last)
    return await mirror.scrub(address, length, { block: BLOCK_BYTES, goodLeg })
  } finally {
    gate.leave(generation)
  }
}

/** The marks in this host's slot, and behind them the room for what legs miss. Its header is the owner's. */
export async function scrubSlot({ options: { mirror }, view }: HostVolume, goodLeg: string | null) {
  if (mirror === undefined) throw new StellwerkError('not-mirrored', `volume "${view.volume}" has one leg`)
  const { volumeId, slotOffset, regionCount } = view
  const length = SLOT_STALE_OFFSET - SLOT_INTENT_OFFSET + 2 * staleAreaBytes(regionCount)
  const judge = slotJudge(new Sealer(volumeId), slotOffset, true)
  return mirror.scrub(slotOffset + SLOT_INTENT_OFFSET, length, { block: BLOCK_BYTES, judge, goodLeg })
}
