// The migration stream, byte by byte. Little endian throughout.
//
//   stream header   magic 8 · version u32 · page size u32 · pages u32 · 8 zero bytes · crc u32 of the 28 before it
//   frame, many     type u8 · flags u8 · zero u16 · round u32 · entries u32 · raw u32 · body u32 · crc u32 of the header
//                   before it and the index · index: entries × (page u32, crc u32) · body
//
// A `pages` frame's index names its pages in the order of the body; a page of zeroes has bit 31 set and no bytes there.
// Each page is guarded by its own CRC (which both ends keep for the checksum of the whole), header and index by theirs.
// The `final` frame ends the stream: one index entry with the CRC of its body, which is checksum u32 · registers length
// u32 · registers · trailer (JSON).

import { crc32 } from 'node:zlib'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { PAGE_BYTES } from './state-checksum.ts'

export const FORMAT_VERSION = 1
const MAGIC = Buffer.from('STWKMIGR', 'latin1')

export const STREAM_HEADER_BYTES = 32
export const FRAME_HEADER_BYTES = 24
export const INDEX_ENTRY_BYTES = 8

/** Pages in one frame at most: 256 KiB, large enough for zstd and small enough to be one link frame's size. */
export const BATCH_PAGES = 64
export const MAX_FINAL_BYTES = 4 * MIB
/** A compressed body may exceed its raw size by zstd's own overhead, never by more than this. */
export const MAX_BODY_BYTES = BATCH_PAGES * PAGE_BYTES + 4 * KIB

export const ZERO_PAGE_BIT = 0x80000000

export const FRAME_PAGES = 1
export const FRAME_FINAL = 2
export const FLAG_ZSTD = 1

export function corrupt(what: string): StellwerkError {
  return new StellwerkError('corrupt-data', `the migration stream is damaged: ${what}`, {
    hint: 'the source runs on; start the migration again',
  })
}

export function encodeStreamHeader(pages: number): Uint8Array {
  const header = Buffer.alloc(STREAM_HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt32LE(FORMAT_VERSION, 8)
  header.writeUInt32LE(PAGE_BYTES, 12)
  header.writeUInt32LE(pages, 16)
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28)
  return header
}

/** The number of pages that will come. */
export function decodeStreamHeader(header: Buffer): number {
  if (!header.subarray(0, 8).equals(MAGIC)) throw corrupt('it does not begin as one')
  if (header.readUInt32LE(28) !== crc32(header.subarray(0, 28))) throw corrupt('its header fails its checksum')
  const version = header.readUInt32LE(8)
  if (version !== FORMAT_VERSION) throw corrupt(`format version ${version}, this host reads ${FORMAT_VERSION}`)
  if (header.readUInt32LE(12) !== PAGE_BYTES) throw corrupt(`page size ${header.readUInt32LE(12)}`)
  if (header.readUInt32LE(20) !== 0 || header.readUInt32LE(24) !== 0) throw corrupt('reserved header bytes are set')
  return header.readUInt32LE(16)
}

export interface FrameHeader {
  readonly type: typeof FRAME_PAGES | typeof FRAME_FINAL
  readonly compressed: boolean
  readonly round: number
  readonly entries: number
  readonly rawBytes: number
  readonly bodyBytes: number
}

/** Header and index in one buffer; `index` holds `entries` × 8 bytes already in wire order. */
export function encodeFrameHead(header: FrameHeader, index: Uint8Array): Buffer {
  const head = Buffer.alloc(FRAME_HEADER_BYTES + index.length)
  head[0] = header.type
  head[1] = header.compressed ? FLAG_ZSTD : 0
  head.writeUInt32LE(header.round, 4)
  head.writeUInt32LE(header.entries, 8)
  head.writeUInt32LE(header.rawBytes, 12)
  head.writeUInt32LE(header.bodyBytes, 16)
  head.set(index, FRAME_HEADER_BYTES)
  head.writeUInt32LE(crc32(index, crc32(head.subarray(0, 20))), 20)
  return head
}

/** Checks every bound before anything is allocated or awaited on the header's word; its CRC needs the index (below). */
export function decodeFrameHeader(bytes: Buffer): FrameHeader {
  const type = bytes[0]
  const flags = bytes[1]
  if (type !== FRAME_PAGES && type !== FRAME_FINAL) throw corrupt(`unknown frame type ${type}`)
  if ((flags !== 0 && flags !== FLAG_ZSTD) || bytes.readUInt16LE(2) !== 0) throw corrupt('unknown frame flags')
  const header: FrameHeader = {
    type,
    compressed: flags === FLAG_ZSTD,
    round: bytes.readUInt32LE(4),
    entries: bytes.readUInt32LE(8),
    rawBytes: bytes.readUInt32LE(12),
    bodyBytes: bytes.readUInt32LE(16),
  }
  const { entries, rawBytes, bodyBytes } = header
  if (type === FRAME_PAGES) {
    if (entries < 1 || entries > BATCH_PAGES) throw corrupt(`a frame of ${entries} pages`)
    if (rawBytes > entries * PAGE_BYTES || bodyBytes > MAX_BODY_BYTES) throw corrupt('a frame longer than its pages')
  } else if (entries !== 1 || bodyBytes < 8 || bodyBytes > MAX_FINAL_BYTES || header.compressed) {
    throw corrupt('a final frame out of bounds')
  }
  if (!header.compressed && rawBytes !== bodyBytes) throw corrupt('a plain frame with two lengths')
  return header
}

/** Throws unless header and index are as they were sent. */
export function checkFrameHead(head: Buffer): void {
  const index = head.subarray(FRAME_HEADER_BYTES)
  if (head.readUInt32LE(20) !== crc32(index, crc32(head.subarray(0, 20))))
    throw corrupt('a frame header fails its checksum')
}

export interface FinalBody {
  readonly stateChecksum: number
  readonly registers: Uint8Array
  readonly trailer: Uint8Array
}

export function encodeFinalBody(final: FinalBody): Buffer {
  const body = Buffer.alloc(8 + final.registers.length + final.trailer.length)
  body.writeUInt32LE(final.stateChecksum, 0)
  body.writeUInt32LE(final.registers.length, 4)
  body.set(final.registers, 8)
  body.set(final.trailer, 8 + final.registers.length)
  return body
}

export function decodeFinalBody(body: Buffer): FinalBody {
  const registersLength = body.readUInt32LE(4)
  if (registersLength > body.length - 8) throw corrupt('registers longer than the final frame')
  return {
    stateChecksum: body.readUInt32LE(0),
    registers: new Uint8Array(body.subarray(8, 8 + registersLength)),
    trailer: body.subarray(8 + registersLength),
  }
}
