// A host's slot: whose it is, which regions it may be writing right now (intent), and per leg a bitmap of what that leg
// has missed. Every 512-byte sector stands for itself, checksum included, so that a torn write loses nothing: each sector
// is the old one or the new one, and both say enough.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import { getText, getU64, setText, setU64, viewOf } from './bytes.ts'
import type { Sealer } from './checksum.ts'
import { isZero, type Leg, type Readout, readWhatCan, writeLegs } from './device-io.ts'
import {
  BLOCK_BYTES,
  INTENT_BLOCKS,
  INTENT_SECTOR,
  INTENT_SECTORS,
  type Layout,
  REGIONS_PER_SECTOR,
  SECTOR_BYTES,
  SLOT_HEADER,
  SLOT_INTENT_OFFSET,
  slotAddress,
} from './layout.ts'

export const SLOT_MAGIC = 0x4c535753
export const INTENT_MAGIC = 0x54495753
export const STALE_MAGIC = 0x54535753

export interface SlotHeader {
  readonly slot: number
  readonly host: string
  /** Counts the assignments of this slot. */
  readonly sequence: number
}

export function encodeSlotHeader(header: SlotHeader, sealer: Sealer, address: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES)
  const sector = bytes.subarray(0, SECTOR_BYTES)
  const view = viewOf(sector)
  view.setUint32(SLOT_HEADER.magic.offset, SLOT_MAGIC, true)
  view.setUint32(SLOT_HEADER.slot.offset, header.slot, true)
  setU64(view, SLOT_HEADER.sequence.offset, header.sequence)
  setText(sector, SLOT_HEADER.host.offset, SLOT_HEADER.host.length, header.host)
  sealer.seal(address, sector, SLOT_HEADER.crc.offset)
  return bytes
}

/** Null: never assigned; `damaged`: it does not check out. */
export function decodeSlotHeader(bytes: Uint8Array, sealer: Sealer, address: number): SlotHeader | null | 'damaged' {
  const sector = bytes.subarray(0, SECTOR_BYTES)
  if (isZero(sector)) return null
  const view = viewOf(sector)
  if (view.getUint32(SLOT_HEADER.magic.offset, true) !== SLOT_MAGIC) return 'damaged'
  if (!sealer.isSealed(address, sector, SLOT_HEADER.crc.offset)) return 'damaged'
  return {
    slot: view.getUint32(SLOT_HEADER.slot.offset, true),
    host: getText(sector, SLOT_HEADER.host.offset, SLOT_HEADER.host.length),
    sequence: getU64(view, SLOT_HEADER.sequence.offset),
  }
}

/** Fills one sector of an intent block; `sector` counts from the start of the slot's intent blocks. */
export function encodeIntentSector(
  target: Uint8Array,
  regions: readonly number[],
  sequence: number,
  sealer: Sealer,
  address: number,
): void {
  assert(regions.length <= REGIONS_PER_SECTOR, `${regions.length} regions in one intent sector`)
  target.fill(0)
  const view = viewOf(target)
  view.setUint32(INTENT_SECTOR.magic.offset, INTENT_MAGIC, true)
  setU64(view, INTENT_SECTOR.sequence.offset, sequence)
  view.setUint16(INTENT_SECTOR.count.offset, regions.length, true)
  for (const [i, region] of regions.entries()) view.setUint32(INTENT_SECTOR.regions.offset + i * 4, region, true)
  sealer.seal(address, target, INTENT_SECTOR.crc.offset)
}

export interface Intent {
  /** Marked regions, ascending, each once. */
  readonly regions: readonly number[]
  /** Sectors that do not check out: what they marked is unknown. */
  readonly damagedSectors: readonly number[]
  readonly sequence: number
}

/** What cannot be read does not check out. */
export function decodeIntent({ bytes, unreadable }: Readout, sealer: Sealer, address: number): Intent {
  const regions = new Set<number>()
  const damagedSectors: number[] = []
  let sequence = 0
  for (let i = 0; i < INTENT_SECTORS; i += 1) {
    const sector = bytes.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)
    const isThere = !unreadable.has(Math.floor((i * SECTOR_BYTES) / BLOCK_BYTES) * BLOCK_BYTES)
    if (isThere && isZero(sector)) continue
    const view = viewOf(sector)
    const good =
      view.getUint32(INTENT_SECTOR.magic.offset, true) === INTENT_MAGIC &&
      sealer.isSealed(address + i * SECTOR_BYTES, sector, INTENT_SECTOR.crc.offset)
    if (!good) {
      damagedSectors.push(i)
      continue
    }
    sequence = Math.max(sequence, getU64(view, INTENT_SECTOR.sequence.offset))
    const count = Math.min(view.getUint16(INTENT_SECTOR.count.offset, true), REGIONS_PER_SECTOR)
    for (let r = 0; r < count; r += 1) regions.add(view.getUint32(INTENT_SECTOR.regions.offset + r * 4, true))
  }
  return { regions: [...regions].sort((a, b) => a - b), damagedSectors, sequence }
}

export async function readIntent(device: BlockDevice, slotAt: number, sealer: Sealer, io: Io): Promise<Intent> {
  const address = slotAt + SLOT_INTENT_OFFSET
  return decodeIntent(await readWhatCan(device, address, INTENT_BLOCKS * BLOCK_BYTES, io), sealer, address)
}

/** Makes a slot a host's, empty: nothing is marked, no leg has missed anything. */
export async function prepareSlot(
  legs: readonly Leg[],
  layout: Layout,
  header: SlotHeader,
  sealer: Sealer,
  io: Io,
): Promise<void> {
  const address = slotAddress(layout, header.slot)
  const bytes = new Uint8Array(layout.slotBytes)
  bytes.set(encodeSlotHeader(header, sealer, address))
  await writeLegs(legs, address, bytes, io)
}

/** Marks nothing any more. */
export async function clearIntent(legs: readonly Leg[], layout: Layout, slot: number, io: Io): Promise<void> {
  await writeLegs(legs, slotAddress(layout, slot) + SLOT_INTENT_OFFSET, new Uint8Array(INTENT_BLOCKS * BLOCK_BYTES), io)
}
