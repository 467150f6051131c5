// Makes the metadata the same on all legs that are written to. Checkpoints and journal are taken from the leg that is believed:
// they belong together. A copy of the cluster and a slot's header stand each for themselves, and are taken from whichever leg in sync
// has them whole. What cannot be read is written anew, on the source, too; but nothing is, that was good when it was loaded.

import { BlockError } from '@stellwerk/block/device.ts'
import { Sealer } from '../format/checksum.ts'
import { clusterCopyAddress, sealedClusterCopyVersion } from '../format/cluster-copy.ts'
import { type Leg, OWNER_IO, type Readout, readWhatCan, SPARED_IO, writeBytes } from '../format/device-io.ts'
import { BLOCK_BYTES, checkpointAddress, slotAddress } from '../format/layout.ts'
import { decodeSlotHeader, encodeSlotHeader } from '../format/slot.ts'
import type { Loaded } from './load.ts'
import type { OwnerLeg } from './settle.ts'

/** Legs are compared in steps of this. */
const COMPARE_BYTES = 256 * 1024

/** `legs`: the one that is believed among them. */
export async function copyMetadata(best: Loaded, legs: readonly OwnerLeg[]): Promise<void> {
  const others = legs.filter(leg => leg.device !== best.leg.device)
  const first = legs.filter(leg => leg.device === best.leg.device)
  await copyCheckpoints(best, others)
  const { journalOffset } = best.layout
  await mendUnreadable(best.leg, journalOffset, best.ring)
  for (const leg of others) await makeEqual(leg, journalOffset, best.ring.bytes)
  if (others.length > 0) await copyClusterCopies(best, [...first, ...others])
  await copyHeaders(best, [...first, ...others])
}

/** Whole areas. On one leg alone there is nothing to do: one that is bad is overwritten by the next checkpoints. */
async function copyCheckpoints({ leg, layout, checkpoints }: Loaded, others: readonly Leg[]): Promise<void> {
  if (others.length === 0) return
  for (const [area, checkpoint] of checkpoints.entries()) {
    const address = checkpointAddress(layout, area)
    for (let at = 0; at < layout.checkpointBytes; at += COMPARE_BYTES) {
      const length = Math.min(COMPARE_BYTES, layout.checkpointBytes - at)
      const readout = await readWhatCan(leg.device, address + at, length, SPARED_IO)
      for (const block of readout.unreadable) {
        if (at + block >= (checkpoint?.length ?? 0)) continue
        throw new BlockError('EIO', 'none', `checkpoint ${area} of leg ${leg.id} could be read a moment ago`)
      }
      await mendUnreadable(leg, address + at, readout)
      for (const other of others) await makeEqual(other, address + at, readout.bytes)
    }
  }
}

/** Where no leg has a whole one, what cannot be read stays as it is: it may be read again before the next copy is written there. */
async function copyClusterCopies({ layout }: Loaded, legs: readonly OwnerLeg[]): Promise<void> {
  for (const area of [0, 1]) {
    const address = clusterCopyAddress(layout, area)
    let source: { leg: OwnerLeg; readout: Readout; version: number } | null = null
    for (const leg of legs) {
      if (leg.role !== 'in-sync') continue
      const readout = await readWhatCan(leg.device, address, layout.clusterCopyBytes, SPARED_IO)
      const version = sealedClusterCopyVersion(readout.bytes, layout, address) ?? -1
      if (source === null || version > source.version) source = { leg, readout, version }
    }
    if (source === null) continue
    if (source.version >= 0) await mendUnreadable(source.leg, address, source.readout)
    for (const leg of legs) if (leg !== source.leg) await makeEqual(leg, address, source.readout.bytes)
  }
}

/** The headers only: a slot's rest is its host's. */
async function copyHeaders({ layout, metadata }: Loaded, legs: readonly OwnerLeg[]): Promise<void> {
  const sealer = new Sealer(layout.volumeId)
  const hosts = new Map([...metadata.slots].map(([host, slot]) => [slot, host]))
  const slots = Array.from({ length: layout.slotCount }, (_, slot) => slot)
  const readouts = await Promise.all(
    slots.map(slot =>
      Promise.all(legs.map(leg => readWhatCan(leg.device, slotAddress(layout, slot), BLOCK_BYTES, SPARED_IO))),
    ),
  )
  for (const slot of slots) {
    const address = slotAddress(layout, slot)
    const there = readouts[slot]!
    const wanted =
      bestHeader(
        there.filter((_, i) => legs[i]!.role === 'in-sync'),
        sealer,
        address,
      ) ?? headerOf(hosts.get(slot), slot, sealer, address)
    for (const [i, { bytes, unreadable }] of there.entries()) {
      if (unreadable.size === 0 && Buffer.compare(bytes, wanted) === 0) continue
      await writeBytes(legs[i]!.device, address, wanted, OWNER_IO)
    }
  }
}

/** Of legs in sync, the one that is believed first: the first that checks out, else one that is empty, else what it is there. */
function bestHeader(there: readonly Readout[], sealer: Sealer, address: number): Uint8Array | null {
  const readable = there.filter(({ unreadable }) => unreadable.size === 0)
  const kinds = readable.map(({ bytes }) => decodeSlotHeader(bytes, sealer, address))
  const good = kinds.findIndex(kind => kind !== null && kind !== 'damaged')
  if (good >= 0) return readable[good]!.bytes
  const empty = kinds.indexOf(null)
  if (empty >= 0) return readable[empty]!.bytes
  return readable.length === there.length ? readable[0]!.bytes : null
}

/** What no leg can give: the journal knows whose a slot is. */
function headerOf(host: string | undefined, slot: number, sealer: Sealer, address: number): Uint8Array {
  return host === undefined
    ? new Uint8Array(BLOCK_BYTES)
    : encodeSlotHeader({ slot, host, sequence: 1 }, sealer, address)
}

async function mendUnreadable(leg: Leg, address: number, { bytes, unreadable }: Readout): Promise<void> {
  for (const at of unreadable)
    await writeBytes(leg.device, address + at, bytes.subarray(at, at + BLOCK_BYTES), OWNER_IO)
}

/** Writes what is not the same there, or cannot be read. */
async function makeEqual(leg: Leg, address: number, wanted: Uint8Array): Promise<void> {
  for (let at = 0; at < wanted.length; at += COMPARE_BYTES) {
    const part = wanted.subarray(at, at + COMPARE_BYTES)
    const { bytes, unreadable } = await readWhatCan(leg.device, address + at, part.length, SPARED_IO)
    if (unreadable.size === 0 && Buffer.compare(part, bytes) === 0) continue
    await writeBytes(leg.device, address + at, part, OWNER_IO)
  }
}
