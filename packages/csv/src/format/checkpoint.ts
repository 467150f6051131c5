// A checkpoint: the whole metadata as of one journal record, in one of two areas by turns. Either of the two, with the
// journal from there, gives the present: the journal keeps what the older one needs.

import { ByteReader, ByteWriter, getU64, malformed, setU64, viewOf } from './bytes.ts'
import type { Sealer } from './checksum.ts'
import { readHolder, readPairs, writeHolder } from './entries.ts'
import {
  blocks,
  CHECKPOINT,
  CHECKPOINT_HEADER_BYTES,
  DISK_BYTES_MAX,
  type Layout,
  MAX_DISKS,
  NAME_BYTES,
} from './layout.ts'
import { type Disk, emptyMetadata, type Metadata } from './metadata.ts'

export const CHECKPOINT_MAGIC = 0x50435753

export interface CheckpointHeader {
  readonly version: number
  /** The last journal record it contains. */
  readonly sequence: number
  readonly ownerEpoch: number
  /** Where in the journal the record `sequence + 1` stands. */
  readonly journalPosition: number
}

const HELD = 1
const RESERVED = 2
const SNAPSHOT = 4
const HAS_PARENT = 8
const KNOWN_FLAGS = HELD | RESERVED | SNAPSHOT | HAS_PARENT

/** Bytes the checkpoint may take at most with so much in it. */
export function checkpointBound(disks: number, mappings: number, extents: number, slots: number): number {
  return CHECKPOINT_HEADER_BYTES + disks * DISK_BYTES_MAX + mappings * 8 + extents * 16 + slots * (NAME_BYTES + 5)
}

/** Padded to whole blocks. */
export function encodeCheckpoint(
  header: CheckpointHeader,
  metadata: Metadata,
  sealer: Sealer,
  address: number,
): Uint8Array {
  const body = new ByteWriter(4096)
  for (const disk of metadata.disks.values()) writeDisk(body, disk)
  let extents = 0
  for (let extent = 0; extent < metadata.references.length; extent += 1) {
    if (metadata.references[extent] === 0) continue
    body.u32(extent)
    body.u32(metadata.references[extent]!)
    body.u64(metadata.versions[extent]!)
    extents += 1
  }
  for (const [host, slot] of metadata.slots) {
    body.u32(slot)
    body.text(host)
  }
  const content = body.take()
  const bytes = new Uint8Array(blocks(CHECKPOINT_HEADER_BYTES + content.length))
  const view = viewOf(bytes)
  view.setUint32(CHECKPOINT.magic.offset, CHECKPOINT_MAGIC, true)
  setU64(view, CHECKPOINT.version.offset, header.version)
  setU64(view, CHECKPOINT.sequence.offset, header.sequence)
  setU64(view, CHECKPOINT.ownerEpoch.offset, header.ownerEpoch)
  setU64(view, CHECKPOINT.journalPosition.offset, header.journalPosition)
  setU64(view, CHECKPOINT.bodyBytes.offset, content.length)
  view.setUint32(CHECKPOINT.diskCount.offset, metadata.disks.size, true)
  view.setUint32(CHECKPOINT.extentCount.offset, extents, true)
  view.setUint32(CHECKPOINT.slotCount.offset, metadata.slots.size, true)
  bytes.set(content, CHECKPOINT_HEADER_BYTES)
  sealer.seal(address, bytes, CHECKPOINT.crc.offset)
  return bytes
}

/** How many bytes to read, or null if there is no checkpoint in this block. */
export function checkpointLength(firstBlock: Uint8Array, layout: Layout): number | null {
  const view = viewOf(firstBlock)
  if (view.getUint32(CHECKPOINT.magic.offset, true) !== CHECKPOINT_MAGIC) return null
  const length = blocks(CHECKPOINT_HEADER_BYTES + getU64(view, CHECKPOINT.bodyBytes.offset))
  return length <= layout.checkpointBytes ? length : null
}

export interface Checkpoint extends CheckpointHeader {
  /** Whole blocks. */
  readonly length: number
  readonly metadata: Metadata
}

/** Null if it does not check out; `malformed` if it checks out and still makes no sense. */
export function decodeCheckpoint(
  bytes: Uint8Array,
  layout: Layout,
  sealer: Sealer,
  address: number,
): Checkpoint | null {
  if (!sealer.isSealed(address, bytes, CHECKPOINT.crc.offset)) return null
  const view = viewOf(bytes)
  const bodyBytes = getU64(view, CHECKPOINT.bodyBytes.offset)
  const body = new ByteReader(bytes.subarray(CHECKPOINT_HEADER_BYTES, CHECKPOINT_HEADER_BYTES + bodyBytes))
  const metadata = emptyMetadata(layout)
  metadata.ownerEpoch = getU64(view, CHECKPOINT.ownerEpoch.offset)
  const disks = view.getUint32(CHECKPOINT.diskCount.offset, true)
  if (disks > MAX_DISKS) throw malformed(`${disks} disks`)
  for (let i = 0; i < disks; i += 1) {
    const disk = readDisk(body)
    if (metadata.disks.has(disk.id)) throw malformed(`disk ${disk.id} stands there twice`)
    metadata.disks.set(disk.id, disk)
    metadata.mappings += disk.map.size
  }
  const extents = view.getUint32(CHECKPOINT.extentCount.offset, true)
  for (let i = 0; i < extents; i += 1) {
    const extent = body.u32()
    if (extent >= layout.extentCount) throw malformed(`extent ${extent} of ${layout.extentCount}`)
    metadata.references[extent] = body.u32()
    metadata.versions[extent] = body.u64()
    if (metadata.references[extent] > 0) metadata.usedExtents += 1
  }
  const slots = view.getUint32(CHECKPOINT.slotCount.offset, true)
  for (let i = 0; i < slots; i += 1) {
    const slot = body.u32()
    metadata.slots.set(body.text(), slot)
  }
  if (body.remaining > 0) throw malformed('a checkpoint is longer than what it holds')
  return {
    version: getU64(view, CHECKPOINT.version.offset),
    sequence: getU64(view, CHECKPOINT.sequence.offset),
    ownerEpoch: metadata.ownerEpoch,
    journalPosition: getU64(view, CHECKPOINT.journalPosition.offset),
    length: bytes.length,
    metadata,
  }
}

function writeDisk(writer: ByteWriter, disk: Disk): void {
  writer.text(disk.id)
  writer.text(disk.name)
  writer.text(disk.vm)
  writer.u64(disk.sizeBytes)
  writer.u64(disk.mapVersion)
  writer.u64(disk.leastEpoch)
  const attached = (disk.holder === null ? 0 : HELD) | (disk.reserved === null ? 0 : RESERVED)
  writer.u8(attached | (disk.snapshot ? SNAPSHOT : 0) | (disk.parent === null ? 0 : HAS_PARENT))
  if (disk.holder !== null) writeHolder(writer, disk.holder)
  if (disk.reserved !== null) writeHolder(writer, disk.reserved)
  if (disk.parent !== null) writer.text(disk.parent)
  writer.u32(disk.map.size)
  for (const [index, extent] of disk.map) {
    writer.u32(index)
    writer.u32(extent)
  }
}

function readDisk(reader: ByteReader): Disk {
  const id = reader.text()
  const name = reader.text()
  const vm = reader.text()
  const sizeBytes = reader.u64()
  const mapVersion = reader.u64()
  const leastEpoch = reader.u64()
  const flags = reader.u8()
  if ((flags & ~KNOWN_FLAGS) !== 0) throw malformed(`disk ${id} has flags ${flags}`)
  const holder = (flags & HELD) === 0 ? null : readHolder(reader)
  const reserved = (flags & RESERVED) === 0 ? null : readHolder(reader)
  const parent = (flags & HAS_PARENT) === 0 ? null : reader.text()
  const snapshot = (flags & SNAPSHOT) !== 0
  const pairs = readPairs(reader)
  const map = new Map<number, number>()
  for (let i = 0; i < pairs.length; i += 2) {
    if (map.has(pairs[i]!)) throw malformed(`disk ${id} maps index ${pairs[i]} twice`)
    map.set(pairs[i]!, pairs[i + 1]!)
  }
  return { id, name, parent, snapshot, sizeBytes, vm, mapVersion, leastEpoch, holder, reserved, map }
}
