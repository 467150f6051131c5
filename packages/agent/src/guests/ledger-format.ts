// The append log that self-checking guests keep on their disk, byte by byte; the model guest and the wasm `ledger` guest
// write the same. One entry after the other from LOG_START on, each one or two units (a unit is 512 bytes, or the disk's
// block size if that is larger), little endian:
//
//   magic u32 · units u32 · entry u64 (1, 2, …) · tag u32 (of the VM) · previous entry's crc u32 · filler · crc u32 of all
//   before it
//
// How long an entry is follows from its number, so its place does too. Entries are written one at a time, so behind the
// last there is nothing but, at most, a torn or unacknowledged next one.

import { crc32 } from 'node:zlib'

export const LOG_MAGIC = 0x474c5753
export const LOG_START = 4096
export const ENTRY_HEAD_BYTES = 24
/** The area at the disk's end that is written, zeroed and trimmed at random and carries nothing. */
export const SCRATCH_BYTES = 64 * 1024

/** Who wrote an entry: disks mixed up show as damage. */
export function ledgerTag(vm: string): number {
  return crc32(vm)
}

export function unitsOf(entry: number): 1 | 2 {
  return entry % 3 === 0 ? 2 : 1
}

/** Where entry n begins, in units from LOG_START. */
export function unitOffset(entry: number): number {
  return entry - 1 + Math.floor((entry - 1) / 3)
}

/** The first byte that is not the log's any more. */
export function logEnd(diskBytes: number): number {
  return Math.max(LOG_START, diskBytes - SCRATCH_BYTES)
}

/** Fills `into` with entry n and returns its CRC, which goes into its successor. */
export function encodeEntry(into: Buffer, entry: number, tag: number, previousCrc: number, unitBytes: number): number {
  into.writeUInt32LE(LOG_MAGIC, 0)
  into.writeUInt32LE(into.length / unitBytes, 4)
  into.writeUInt32LE(entry >>> 0, 8)
  into.writeUInt32LE(Math.floor(entry / 2 ** 32), 12)
  into.writeUInt32LE(tag, 16)
  into.writeUInt32LE(previousCrc, 20)
  // Every sector of every entry is unlike any other, so that a judge of the disk's history can tell them apart.
  let x = (Math.imul(entry, 0x9e3779b1) ^ tag) | 1
  const end = into.length - 4
  for (let at = ENTRY_HEAD_BYTES; at < end; at += 4) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    into.writeInt32LE(x, at)
  }
  const crc = crc32(into.subarray(0, end))
  into.writeUInt32LE(crc, end)
  return crc
}

/** The entry's CRC if it is whole and is `entry` of this VM behind `previousCrc` (null: not checked); else null. */
export function checkEntry(bytes: Buffer, entry: number, tag: number, previousCrc: number | null): number | null {
  if (bytes.readUInt32LE(0) !== LOG_MAGIC || entryNumber(bytes) !== entry || bytes.readUInt32LE(16) !== tag) return null
  if (previousCrc !== null && bytes.readUInt32LE(20) !== previousCrc) return null
  const crc = crc32(bytes.subarray(0, bytes.length - 4))
  return crc === bytes.readUInt32LE(bytes.length - 4) ? crc : null
}

/** Whether a unit looks like the beginning of an entry of this VM, and of which. */
export function peekEntry(unit: Buffer, tag: number): number | null {
  return unit.readUInt32LE(0) === LOG_MAGIC && unit.readUInt32LE(16) === tag ? entryNumber(unit) : null
}

function entryNumber(bytes: Buffer): number {
  return bytes.readUInt32LE(8) + bytes.readUInt32LE(12) * 2 ** 32
}
