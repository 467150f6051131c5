// What a new owner does before it acts: whatever it is going to build on is made durable, and the same on every leg. The
// predecessor's last record and checkpoint may have been read from a cache that a power cut would still empty.

import { checkpointLength } from '../format/checkpoint.ts'
import { type Leg, OWNER_IO, readBytes, writeBytes, writeLegs } from '../format/device-io.ts'
import { BLOCK_BYTES, checkpointAddress, type Layout, slotAddress } from '../format/layout.ts'
import { mendSuperblock } from '../format/superblock.ts'
import type { Loaded } from './load.ts'

/** Legs are compared in steps of this. */
const COMPARE_BYTES = 256 * 1024

export async function settle(best: Loaded, all: readonly Loaded[], legs: readonly Leg[]): Promise<void> {
  for (const loaded of all) await mendSuperblock(loaded.leg.device, loaded.superblock, OWNER_IO)
  const { layout } = best
  for (const { leg } of all) if (leg !== best.leg) await copyMetadata(best.leg, leg, layout)

  const address = checkpointAddress(layout, best.checkpoint.version)
  const first = await readBytes(best.leg.device, address, BLOCK_BYTES, OWNER_IO)
  const length = checkpointLength(first, layout) ?? BLOCK_BYTES
  await writeLegs(legs, address, await readBytes(best.leg.device, address, length, OWNER_IO), OWNER_IO)
  const last = best.records.at(-1)
  if (last === undefined) return
  const bytes = best.ring.subarray(last.position, last.position + last.length)
  await writeLegs(legs, layout.journalOffset + last.position, bytes, OWNER_IO)
}

/** Checkpoints, journal, cluster copies and the slots' headers, where they differ: a slot's rest is its host's. */
async function copyMetadata(from: Leg, to: Leg, layout: Layout): Promise<void> {
  await copyRange(from, to, layout.checkpointOffset, layout.slotsOffset)
  for (let slot = 0; slot < layout.slotCount; slot += 1) {
    const address = slotAddress(layout, slot)
    await copyRange(from, to, address, address + BLOCK_BYTES)
  }
}

async function copyRange(from: Leg, to: Leg, start: number, end: number): Promise<void> {
  for (let at = start; at < end; at += COMPARE_BYTES) {
    const length = Math.min(COMPARE_BYTES, end - at)
    const wanted = await readBytes(from.device, at, length, OWNER_IO)
    const there = await readBytes(to.device, at, length, OWNER_IO)
    if (Buffer.compare(wanted, there) !== 0) await writeBytes(to.device, at, wanted, OWNER_IO)
  }
}
