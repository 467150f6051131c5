// What a new owner does before it acts: whatever it is going to build on is made durable, and the same on every leg that is
// written to. The predecessor's last record and checkpoint may have been read from a cache that a power cut would still
// empty; a leg that is catching up has the metadata of another time, or none.

import { checkpointLength } from '../format/checkpoint.ts'
import { type Leg, OWNER_IO, readBytes, writeBytes, writeLegs } from '../format/device-io.ts'
import { BLOCK_BYTES, checkpointAddress, type Layout, slotAddress } from '../format/layout.ts'
import type { Metadata } from '../format/metadata.ts'
import { clearIntent } from '../format/slot.ts'
import { mendSuperblock, readSuperblockCopies, type Superblock, writeSuperblock } from '../format/superblock.ts'
import type { Loaded } from './load.ts'

/** Legs are compared in steps of this. */
const COMPARE_BYTES = 256 * 1024

/** A leg that is written to, and where it stands in the volume. */
export interface OwnerLeg extends Leg {
  readonly index: number
  readonly role: 'in-sync' | 'syncing'
}

/** `legCount`: how many the volume has, stale ones included. */
export async function settle(
  best: Loaded,
  all: readonly Loaded[],
  legs: readonly OwnerLeg[],
  legCount: number,
): Promise<void> {
  for (const loaded of all) await mendSuperblock(loaded.leg.device, loaded.superblock, OWNER_IO)
  const { layout } = best
  for (const leg of legs) {
    if (leg.device === best.leg.device) continue
    await copyMetadata(best.leg, leg, layout)
    if (leg.role === 'syncing') await emptyFreeSlots(leg, best.metadata)
  }
  for (const leg of legs) await nameLeg(leg, best.superblock.superblock, legCount)

  const address = checkpointAddress(layout, best.checkpoint.version)
  const first = await readBytes(best.leg.device, address, BLOCK_BYTES, OWNER_IO)
  const length = checkpointLength(first, layout) ?? BLOCK_BYTES
  await writeLegs(legs, address, await readBytes(best.leg.device, address, length, OWNER_IO), OWNER_IO)
  const last = best.records.at(-1)
  if (last === undefined) return
  const bytes = best.ring.subarray(last.position, last.position + last.length)
  await writeLegs(legs, layout.journalOffset + last.position, bytes, OWNER_IO)
}

/** The superblock of a leg that is new, or that has been another one's, says which it is; last, as in formatting. */
async function nameLeg(leg: OwnerLeg, model: Superblock, legCount: number): Promise<void> {
  const copies = await readSuperblockCopies(leg.device, OWNER_IO)
  const right = copies.every(
    copy =>
      typeof copy !== 'string' &&
      copy.layout.volumeId === model.layout.volumeId &&
      copy.legId === leg.id &&
      copy.legIndex === leg.index &&
      copy.legCount === legCount,
  )
  if (right) return
  const version = Math.max(model.version, ...copies.map(copy => (typeof copy === 'string' ? 0 : copy.version))) + 1
  await writeSuperblock(leg.device, { ...model, version, legId: leg.id, legIndex: leg.index, legCount }, OWNER_IO)
}

/** Checkpoints, journal, cluster copies and the slots' headers, where they differ: a slot's rest is its host's. */
async function copyMetadata(from: Leg, to: Leg, layout: Layout): Promise<void> {
  await copyRange(from, to, layout.checkpointOffset, layout.slotsOffset)
  for (let slot = 0; slot < layout.slotCount; slot += 1) {
    const address = slotAddress(layout, slot)
    await copyRange(from, to, address, address + BLOCK_BYTES)
  }
}

/** What hosts that hold nothing marked there long ago, and never took away, must not look marked when the leg counts. */
async function emptyFreeSlots(leg: Leg, { layout, disks, slots }: Metadata): Promise<void> {
  const holders = new Set([...disks.values()].flatMap(({ holder, reserved }) => [holder?.host, reserved?.host]))
  for (const [host, slot] of slots) if (!holders.has(host)) await clearIntent([leg], layout, slot, OWNER_IO)
}

async function copyRange(from: Leg, to: Leg, start: number, end: number): Promise<void> {
  for (let at = start; at < end; at += COMPARE_BYTES) {
    const length = Math.min(COMPARE_BYTES, end - at)
    const wanted = await readBytes(from.device, at, length, OWNER_IO)
    const there = await readBytes(to.device, at, length, OWNER_IO)
    if (Buffer.compare(wanted, there) !== 0) await writeBytes(to.device, at, wanted, OWNER_IO)
  }
}
