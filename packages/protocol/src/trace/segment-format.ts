// The bytes of a trace segment: a header that names the process, then records, each a fixed head to filter on without
// decoding and a msgpack payload. Pure: what reads and writes files is reader.ts and file-writer.ts.
//
//   segment   "SWTRACE1" · u16 length of the name · the name · u32 crc of all before
//   record    head (68 bytes, little endian) · payload
//   head       0 u32 payload length      4 u32 its complement      8 u32 crc of all that follows
//             12 u8 level  13 u8 zero   14 u16 hash of the kind's first word
//             16 f64 wall ms            24 f64 monotonic ms        32 f64 sequence number     40 u32 HLC counter
//             44 u32 hash of the kind   48 u32 × 5 hashes of host, vm, volume, disk, migration (0: none)
//   payload   [kind, process or nil, cause process, cause seq, host, vm, volume, disk, migration, body]
import { crc32 } from 'node:zlib'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { TraceLevel, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { packr } from '../msgpack.ts'

export const HEAD_BYTES = 68
/** A longer record is written without its body. */
export const MAX_RECORD_BYTES = 4 * MIB

export const LEVELS: readonly TraceLevel[] = ['decision', 'message', 'io']
export const ID_FIELDS = ['host', 'vm', 'volume', 'disk', 'migration'] as const
export type IdField = (typeof ID_FIELDS)[number]

const MAGIC = Buffer.from('SWTRACE1', 'latin1')
const MAX_NAME_BYTES = 1024

// --- hashes --------------------------------------------------------------------------------------------------------------

/** Strings whose hash is remembered: kinds and names repeat endlessly. */
const MAX_HASHES = 4096
const hashes = new Map<string, number>()

/** FNV-1a; never 0, which means none. */
export function hashOf(text: string): number {
  const known = hashes.get(text)
  if (known !== undefined) return known
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  const result = hash >>> 0 || 1
  if (hashes.size >= MAX_HASHES) hashes.clear()
  hashes.set(text, result)
  return result
}

export function familyHash(kind: string): number {
  const dot = kind.indexOf('.')
  return hashOf(dot < 0 ? kind : kind.slice(0, dot)) & 0xffff
}

// --- writing -------------------------------------------------------------------------------------------------------------

export function encodeSegmentHeader(process: string): Buffer {
  const name = Buffer.from(process)
  assert(name.byteLength <= MAX_NAME_BYTES, 'a process name fits a segment header')
  const header = Buffer.alloc(MAGIC.length + 2 + name.length + 4)
  MAGIC.copy(header)
  header.writeUInt16LE(name.length, MAGIC.length)
  name.copy(header, MAGIC.length + 2)
  header.writeUInt32LE(crc32(header.subarray(0, -4)), header.length - 4)
  return header
}

export function encodePayload(record: TraceRecord, process: string): Uint8Array {
  const payload = packPayload(record, process, record.body ?? null)
  if (HEAD_BYTES + payload.byteLength <= MAX_RECORD_BYTES) return payload
  return packPayload(record, process, { omitted: 'too large for the trace', bytes: payload.byteLength })
}

function packPayload(record: TraceRecord, process: string, body: unknown): Uint8Array {
  const { kind, cause, host, vm, volume, disk, migration } = record
  return packr.pack([
    kind,
    record.process === process ? null : record.process,
    cause?.process ?? null,
    cause?.seq ?? 0,
    host ?? null,
    vm ?? null,
    volume ?? null,
    disk ?? null,
    migration ?? null,
    record.body === undefined ? null : { b: body },
  ])
}

/** Writes head and payload at `at` in `target`, which has the room. */
export function writeRecord(target: Buffer, at: number, record: TraceRecord, payload: Uint8Array): void {
  const { length } = payload
  target.writeUInt32LE(length, at)
  target.writeUInt32LE(~length >>> 0, at + 4)
  target[at + 12] = LEVELS.indexOf(record.level)
  target[at + 13] = 0
  target.writeUInt16LE(familyHash(record.kind), at + 14)
  target.writeDoubleLE(record.hlc.wallMs, at + 16)
  target.writeDoubleLE(record.at, at + 24)
  target.writeDoubleLE(record.seq, at + 32)
  target.writeUInt32LE(record.hlc.counter >>> 0, at + 40)
  target.writeUInt32LE(hashOf(record.kind), at + 44)
  target.writeUInt32LE(record.host === undefined ? 0 : hashOf(record.host), at + 48)
  target.writeUInt32LE(record.vm === undefined ? 0 : hashOf(record.vm), at + 52)
  target.writeUInt32LE(record.volume === undefined ? 0 : hashOf(record.volume), at + 56)
  target.writeUInt32LE(record.disk === undefined ? 0 : hashOf(record.disk), at + 60)
  target.writeUInt32LE(record.migration === undefined ? 0 : hashOf(record.migration), at + 64)
  target.set(payload, at + HEAD_BYTES)
  target.writeUInt32LE(crc32(target.subarray(at + 12, at + HEAD_BYTES + length)), at + 8)
}

// --- reading -------------------------------------------------------------------------------------------------------------

/** The header's length and process; null if these bytes are no segment header. */
export function decodeSegmentHeader(bytes: Buffer): { readonly process: string; readonly length: number } | null {
  if (bytes.length < MAGIC.length + 6 || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null
  const length = MAGIC.length + 2 + bytes.readUInt16LE(MAGIC.length) + 4
  if (bytes.length < length || crc32(bytes.subarray(0, length - 4)) !== bytes.readUInt32LE(length - 4)) return null
  return { process: bytes.toString('utf8', MAGIC.length + 2, length - 4), length }
}

/** Whether these bytes, a whole file, are what a crash leaves of a header: its beginning, or zeroes. */
export function isCutHeader(bytes: Buffer): boolean {
  if (bytes.every(byte => byte === 0)) return true
  const known = Math.min(bytes.length, MAGIC.length)
  if (!bytes.subarray(0, known).equals(MAGIC.subarray(0, known))) return false
  return bytes.length < MAGIC.length + 2 || bytes.length < MAGIC.length + 2 + bytes.readUInt16LE(MAGIC.length) + 4
}

export const MAX_SEGMENT_HEADER_BYTES = MAGIC.length + 2 + MAX_NAME_BYTES + 4

/** The payload's length, or null if the head's two lengths disagree. */
export function payloadLength(bytes: Buffer, at: number): number | null {
  const length = bytes.readUInt32LE(at)
  const complement = bytes.readUInt32LE(at + 4)
  return ~length >>> 0 === complement && HEAD_BYTES + length <= MAX_RECORD_BYTES ? length : null
}

export function isIntact(bytes: Buffer, at: number, length: number): boolean {
  return crc32(bytes.subarray(at + 12, at + HEAD_BYTES + length)) === bytes.readUInt32LE(at + 8)
}

/** A record whose checksum is right. Throws if it is still none. */
export function decodeRecord(bytes: Buffer, at: number, length: number, process: string): TraceRecord {
  const fields: unknown = packr.unpack(bytes.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length))
  const level = LEVELS[bytes[at + 12]!]
  if (!Array.isArray(fields) || fields.length !== 10 || level === undefined) throw new Error('no trace record')
  const [kind, recorder, causeProcess, causeSeq, host, vm, volume, disk, migration, body] = fields
  return {
    hlc: { wallMs: bytes.readDoubleLE(at + 16), counter: bytes.readUInt32LE(at + 40) },
    at: bytes.readDoubleLE(at + 24),
    process: recorder ?? process,
    seq: sequenceOf(bytes, at),
    level,
    kind,
    ...(causeProcess === null ? {} : { cause: { process: causeProcess, seq: causeSeq } }),
    ...(host === null ? {} : { host }),
    ...(vm === null ? {} : { vm }),
    ...(volume === null ? {} : { volume }),
    ...(disk === null ? {} : { disk }),
    ...(migration === null ? {} : { migration }),
    ...(body === null ? {} : { body: body.b }),
  }
}

/** Of a record whose head is there. */
export function sequenceOf(bytes: Buffer, at: number): number {
  return bytes.readDoubleLE(at + 32)
}
