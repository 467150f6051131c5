// Where everything stands on a volume, byte by byte: docs/VOLUME-FORMAT.md says the same, and a test compares the two.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB, KIB, MIB } from '@stellwerk/runtime/units.ts'

/** Metadata is written in whole blocks of this size. */
export const BLOCK_BYTES = 4096
/** What a device writes whole or not at all. */
export const SECTOR_BYTES = 512
export const MAX_LEGS = 2
export const MAX_SLOTS = 256
/** Disks, snapshots included. */
export const MAX_DISKS = 1024
/** Names and ids of disks, VMs and hosts, in bytes. */
export const NAME_BYTES = 64

export interface Field {
  readonly offset: number
  readonly length: number
}

/** Offsets and lengths, in order, without holes. */
function fields<const T extends Readonly<Record<string, number>>>(lengths: T): { readonly [K in keyof T]: Field } {
  let offset = 0
  const result: Record<string, Field> = {}
  for (const [name, length] of Object.entries(lengths)) {
    result[name] = { offset, length }
    offset += length
  }
  return result as { readonly [K in keyof T]: Field }
}

export const SUPERBLOCK = fields({
  magic: 4,
  crc: 4,
  formatVersion: 4,
  blockBytes: 4,
  compatFeatures: 8,
  incompatFeatures: 8,
  roCompatFeatures: 8,
  version: 8,
  volumeId: 32,
  clusterId: 32,
  legId: 32,
  legIndex: 2,
  legCount: 2,
  extentBytes: 4,
  regionBytes: 4,
  slotCount: 4,
  volumeBytes: 8,
  checkpointOffset: 8,
  checkpointBytes: 8,
  journalOffset: 8,
  journalBytes: 8,
  clusterCopyOffset: 8,
  clusterCopyBytes: 8,
  slotsOffset: 8,
  slotBytes: 8,
  dataOffset: 8,
  extentCount: 4,
  reserved: 3852,
})

export const CHECKPOINT = fields({
  magic: 4,
  crc: 4,
  version: 8,
  sequence: 8,
  ownerEpoch: 8,
  journalPosition: 8,
  bodyBytes: 8,
  diskCount: 4,
  extentCount: 4,
  slotCount: 4,
  reserved: 68,
})

export const RECORD = fields({
  magic: 4,
  crc: 4,
  sequence: 8,
  ownerEpoch: 8,
  payloadBytes: 4,
  entryCount: 4,
})

export const SLOT_HEADER = fields({
  magic: 4,
  crc: 4,
  slot: 4,
  reserved: 4,
  sequence: 8,
  host: 64,
  padding: 424,
})

export const INTENT_SECTOR = fields({
  magic: 4,
  crc: 4,
  sequence: 8,
  count: 2,
  reserved: 14,
  regions: 480,
})

export const STALE_SECTOR = fields({
  magic: 4,
  crc: 4,
  sequence: 8,
  generation: 16,
  bits: 480,
})

export const CLUSTER_COPY = fields({
  magic: 4,
  crc: 4,
  version: 8,
  ownerEpoch: 8,
  payloadBytes: 4,
  reserved: 36,
})

export function structBytes(struct: Readonly<Record<string, Field>>): number {
  return Object.values(struct).reduce((end, field) => Math.max(end, field.offset + field.length), 0)
}

export const CHECKPOINT_HEADER_BYTES = structBytes(CHECKPOINT)
export const RECORD_HEADER_BYTES = structBytes(RECORD)
export const CLUSTER_COPY_HEADER_BYTES = structBytes(CLUSTER_COPY)

export const SUPERBLOCK_OFFSETS = [0, 64 * KIB] as const
/** The first byte after the superblocks: here the checkpoints begin. */
export const AREAS_OFFSET = 128 * KIB

export const REGIONS_PER_SECTOR = INTENT_SECTOR.regions.length / 4
export const INTENT_BLOCKS = 2
export const INTENT_SECTORS = (INTENT_BLOCKS * BLOCK_BYTES) / SECTOR_BYTES
/** Within a slot: its header's block, the intent blocks, then a stale bitmap for each of two legs. */
export const SLOT_INTENT_OFFSET = BLOCK_BYTES
export const SLOT_STALE_OFFSET = SLOT_INTENT_OFFSET + INTENT_BLOCKS * BLOCK_BYTES
export const STALE_BITS_PER_SECTOR = STALE_SECTOR.bits.length * 8

/** A volume's geometry: the same on all of its legs. */
export interface Layout {
  readonly volumeId: string
  readonly clusterId: string
  readonly volumeBytes: number
  readonly extentBytes: number
  readonly regionBytes: number
  readonly slotCount: number
  readonly checkpointOffset: number
  /** Of each of the two. */
  readonly checkpointBytes: number
  readonly journalOffset: number
  readonly journalBytes: number
  readonly clusterCopyOffset: number
  /** Of each of the two. */
  readonly clusterCopyBytes: number
  readonly slotsOffset: number
  /** Of each. */
  readonly slotBytes: number
  readonly dataOffset: number
  readonly extentCount: number
}

export interface LayoutOptions {
  readonly volumeId: string
  readonly clusterId: string
  readonly volumeBytes: number
  readonly extentBytes?: number
  readonly regionBytes?: number
  readonly slotCount?: number
  readonly journalBytes?: number
  readonly clusterCopyBytes?: number
}

export const MIN_JOURNAL_BYTES = 256 * KIB
/** Unless told: a 64th of the volume. An owner reads all of it before it serves. */
const USUAL_JOURNAL_BYTES = { least: MIB, most: 8 * MIB }
/** An encoded disk without its map: names, its parent's among them, and, twice, who holds it. */
export const DISK_BYTES_MAX = 4 * (NAME_BYTES + 1) + 29 + 2 * (2 * (NAME_BYTES + 1) + 16)
/** An extent's record and one mapping of it. Shared extents have more mappings: the owner watches the sum. */
const EXTENT_BYTES = 16 + 8
const SPARE_BYTES_PER_EXTENT = 16

export function planLayout(options: LayoutOptions): Layout {
  const extentBytes = options.extentBytes ?? 4 * MIB
  const regionBytes = options.regionBytes ?? Math.min(MIB, extentBytes)
  const slotCount = options.slotCount ?? slotsFor(options.volumeBytes)
  const journalBytes = options.journalBytes ?? journalFor(options.volumeBytes)
  const clusterCopyBytes = options.clusterCopyBytes ?? MIB
  demand(
    isPowerOfTwo(extentBytes) && extentBytes >= BLOCK_BYTES && extentBytes <= 256 * MIB,
    'extentBytes',
    extentBytes,
  )
  demand(
    isPowerOfTwo(regionBytes) && regionBytes >= BLOCK_BYTES && regionBytes <= extentBytes,
    'regionBytes',
    regionBytes,
  )
  demand(Number.isInteger(slotCount) && slotCount >= 1 && slotCount <= MAX_SLOTS, 'slotCount', slotCount)
  demand(journalBytes % BLOCK_BYTES === 0 && journalBytes >= MIN_JOURNAL_BYTES, 'journalBytes', journalBytes)
  demand(clusterCopyBytes % BLOCK_BYTES === 0 && clusterCopyBytes > 0, 'clusterCopyBytes', clusterCopyBytes)
  for (const id of [options.volumeId, options.clusterId]) demand(/^[\w.-]{1,32}$/.test(id), 'id', id)

  const mostExtents = Math.floor(options.volumeBytes / extentBytes)
  const regions = Math.ceil(options.volumeBytes / regionBytes)
  const checkpointBytes = blocks(
    CHECKPOINT_HEADER_BYTES +
      mostExtents * (EXTENT_BYTES + SPARE_BYTES_PER_EXTENT) +
      MAX_DISKS * DISK_BYTES_MAX +
      slotCount * (NAME_BYTES + 5),
  )
  const slotBytes = SLOT_STALE_OFFSET + MAX_LEGS * staleAreaBytes(regions)

  const checkpointOffset = AREAS_OFFSET
  const journalOffset = checkpointOffset + 2 * checkpointBytes
  const clusterCopyOffset = journalOffset + journalBytes
  const slotsOffset = clusterCopyOffset + 2 * clusterCopyBytes
  // One more than the hosts have: the owner's, for what it grants while a leg misses it.
  const dataOffset = Math.ceil((slotsOffset + (slotCount + 1) * slotBytes) / extentBytes) * extentBytes
  const extentCount = Math.floor((options.volumeBytes - dataOffset) / extentBytes)
  if (extentCount < 1) {
    throw new StellwerkError('volume-too-small', `${options.volumeBytes} bytes leave no room for data`, {
      where: options.volumeId,
      hint: `metadata takes ${dataOffset} bytes; make it larger or the extents smaller`,
    })
  }
  return {
    volumeId: options.volumeId,
    clusterId: options.clusterId,
    volumeBytes: options.volumeBytes,
    extentBytes,
    regionBytes,
    slotCount,
    checkpointOffset,
    checkpointBytes,
    journalOffset,
    journalBytes,
    clusterCopyOffset,
    clusterCopyBytes,
    slotsOffset,
    slotBytes,
    dataOffset,
    extentCount,
  }
}

/** A slot is its host's for good: more than a cluster has at once, where the room for that does not matter. */
function slotsFor(volumeBytes: number): number {
  return volumeBytes < 8 * GIB ? 16 : 64
}

function journalFor(volumeBytes: number): number {
  const { least, most } = USUAL_JOURNAL_BYTES
  return Math.min(most, Math.max(least, blocks(volumeBytes / 64)))
}

/** A superblock can check out and still make no sense. */
export function isSane(layout: Layout): boolean {
  const { checkpointOffset, checkpointBytes, journalOffset, journalBytes, clusterCopyOffset, clusterCopyBytes } = layout
  const { slotsOffset, slotBytes, slotCount, dataOffset, extentBytes, regionBytes, extentCount, volumeBytes } = layout
  const inOrder =
    checkpointOffset >= AREAS_OFFSET &&
    journalOffset >= checkpointOffset + 2 * checkpointBytes &&
    clusterCopyOffset >= journalOffset + journalBytes &&
    slotsOffset >= clusterCopyOffset + 2 * clusterCopyBytes &&
    dataOffset >= slotsOffset + (slotCount + 1) * slotBytes &&
    volumeBytes >= dataOffset + extentCount * extentBytes
  const aligned = [checkpointBytes, journalBytes, clusterCopyBytes, slotBytes].every(
    bytes => bytes > 0 && bytes % BLOCK_BYTES === 0,
  )
  const sizes =
    isPowerOfTwo(extentBytes) &&
    isPowerOfTwo(regionBytes) &&
    extentBytes % regionBytes === 0 &&
    dataOffset % extentBytes === 0 &&
    journalBytes >= MIN_JOURNAL_BYTES &&
    slotBytes >= SLOT_STALE_OFFSET &&
    slotCount >= 1 &&
    slotCount <= MAX_SLOTS
  return inOrder && aligned && sizes
}

export function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && Number.isInteger(Math.log2(value))
}

export function checkpointAddress(layout: Layout, version: number): number {
  return layout.checkpointOffset + (version % 2) * layout.checkpointBytes
}

export function slotAddress(layout: Layout, slot: number): number {
  return layout.slotsOffset + slot * layout.slotBytes
}

/** The owner's own slot, behind the hosts': only its stale sectors are used. */
export function ownerSlotAddress(layout: Layout): number {
  return slotAddress(layout, layout.slotCount)
}

/** All slots', the owner's included. */
export function slotAddresses(layout: Layout): number[] {
  return Array.from({ length: layout.slotCount + 1 }, (_, slot) => slotAddress(layout, slot))
}

export function regionCount(layout: Layout): number {
  return Math.ceil(layout.volumeBytes / layout.regionBytes)
}

/** Of one leg, within a slot. */
export function staleAreaBytes(regions: number): number {
  return blocks(Math.ceil(regions / STALE_BITS_PER_SECTOR) * SECTOR_BYTES)
}

export function extentAddress(layout: Layout, extent: number): number {
  return layout.dataOffset + extent * layout.extentBytes
}

/** The metadata that only the owner may write, and within it the slots, each writable by its host too. */
export interface MetadataRanges {
  readonly metadata: { readonly offset: number; readonly length: number }
  readonly slots: readonly { readonly host: string; readonly offset: number; readonly length: number }[]
}

function demand(condition: boolean, name: string, value: unknown): void {
  if (condition) return
  throw new StellwerkError('bad-geometry', `${name} ${String(value)} cannot be used for a volume`, {
    where: name,
    hint: 'sizes are powers of two of at least 4096 bytes, a region no larger than an extent',
  })
}
