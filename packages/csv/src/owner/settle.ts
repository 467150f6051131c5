// What a new owner does before it acts: whatever it is going to build on is made durable, and the same on every leg that is
// written to. The predecessor's last record and checkpoint may have been read from a cache that a power cut would still
// empty; a leg that is catching up has the metadata of another time, or none.

import { type Leg, OWNER_IO, readBytes, SPARED_IO, writeLegs } from '../format/device-io.ts'
import { checkpointAddress, type Layout } from '../format/layout.ts'
import type { Metadata } from '../format/metadata.ts'
import { refuseOneDevice } from '../format/one-device.ts'
import { clearIntent } from '../format/slot.ts'
import { mendSuperblock, readSuperblockCopies, type Superblock, writeSuperblock } from '../format/superblock.ts'
import { copyMetadata } from './copy-metadata.ts'
import type { Loaded } from './load.ts'

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
  await copyMetadata(best, legs)
  for (const leg of legs) if (leg.role === 'syncing') await emptyFreeSlots(leg, best.metadata)
  let isNamed = false
  for (const leg of legs) if (await nameLeg(leg, best.superblock.superblock, legCount)) isNamed = true
  // Had a leg that was named been another one as well, that would not be named any more.
  if (isNamed) for (const leg of legs) await refuseOneDevice(leg)

  const { version, length } = best.checkpoint
  const address = checkpointAddress(layout, version)
  await writeLegs(legs, address, await readBytes(best.leg.device, address, length, OWNER_IO), OWNER_IO)
  const last = best.records.at(-1)
  if (last === undefined) return
  const bytes = best.ring.bytes.subarray(last.position, last.position + last.length)
  await writeLegs(legs, layout.journalOffset + last.position, bytes, OWNER_IO)
}

/** The superblock of a leg that is new, or that has been another one's, says which it is; last, as in formatting. False: it did. */
async function nameLeg(leg: OwnerLeg, model: Superblock, legCount: number): Promise<boolean> {
  const copies = await readSuperblockCopies(leg.device, SPARED_IO)
  const right = copies.every(
    copy =>
      typeof copy !== 'string' &&
      copy.layout.volumeId === model.layout.volumeId &&
      copy.legId === leg.id &&
      copy.legIndex === leg.index &&
      copy.legCount === legCount,
  )
  if (right) return false
  const version = Math.max(model.version, ...copies.map(copy => (typeof copy === 'string' ? 0 : copy.version))) + 1
  await writeSuperblock(leg.device, { ...model, version, legId: leg.id, legIndex: leg.index, legCount }, OWNER_IO)
  return true
}

/** Of every host. */
export async function emptySlots(legs: readonly Leg[], { slots }: Metadata, layout: Layout): Promise<void> {
  for (const slot of slots.values()) await clearIntent(legs, layout, slot, OWNER_IO)
}

/** What hosts that hold nothing marked there long ago, and never took away, must not look marked when the leg counts. */
async function emptyFreeSlots(leg: Leg, { layout, disks, slots }: Metadata): Promise<void> {
  const holders = new Set([...disks.values()].flatMap(({ holder, reserved }) => [holder?.host, reserved?.host]))
  for (const [host, slot] of slots) if (!holders.has(host)) await clearIntent([leg], layout, slot, OWNER_IO)
}
