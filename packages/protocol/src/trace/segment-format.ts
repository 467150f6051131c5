// The bytes of a trace segment: a header that names the process, then records, each a fixed head to filter on without
// decoding and a msgpack payload. Pure: what reads and writes files is reader.ts and file-writer.ts.
//
//   segment   "SWTRACE2" · u16 length of the about · the about, JSON { process, cluster? } · u32 crc of all before
//             (format 1, still read: "SWTRACE1", and the process's name alone instead of the JSON)
//   record    head (68 bytes, little endian) · payload
//   head       0 u32 payload length      4 u32 its complement      8 u32 crc of all that follows
//             12 u8 level  13 u8 zero   14 u16 hash of the kind's first word
//             16 f64 wall ms            24 f64 monotonic ms        32 f64 sequence number     40 u32 HLC counter
//             44 u32 hash of the kind   48 u32 × 5 hashes of host, vm, volume, disk, migration (0: none)
//   payload   [kind, process or nil, cause process, cause seq, host, vm, volume, disk, migration, body], and the order if any
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

/** Followed by the format's number, one digit. */
const MAGIC = Buffer.from('SWTRACE', 'latin1')
export const TRACE_FORMAT = 2
const START_BYTES = MAGIC.length + 1
const MAX_ABOUT_BYTES = 1024

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

/** Whose records a segment has. `cluster` null: nobody said (format 1 had no place for it). */
export interface SegmentAbout {
  readonly process: string
  readonly cluster: string | null
}

export function encodeSegmentHeader({ process, cluster }: SegmentAbout): Buffer {
  const about = Buffer.from(JSON.stringify({ process, ...(cluster === null ? {} : { cluster }) }))
  assert(about.byteLength <= MAX_ABOUT_BYTES, 'the names of a process and its cluster fit a segment header')
  const header = Buffer.alloc(START_BYTES + 2 + about.length + 4)
  MAGIC.copy(header)
  header.write(String(TRACE_FORMAT), MAGIC.length, 'latin1')
  header.writeUInt16LE(about.length, START_BYTES)
  about.copy(header, START_BYTES + 2)
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
    ...(record.order === undefined ? [] : [record.order]),
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

/** What the first bytes of a file say of it. */
export type SegmentStart =
  | (SegmentAbout & { readonly kind: 'segment'; readonly length: number })
  /** What a crash leaves of a header, the bytes being the whole file: its beginning, or zeroes. */
  | { readonly kind: 'cut' }
  /** A later version's: how it goes on is not known here. */
  | { readonly kind: 'newer'; readonly format: number }
  | { readonly kind: 'damaged' }
  /** No trace at all. */
  | { readonly kind: 'foreign' }

/** `bytes`: the first of the file, all of it or at least MAX_SEGMENT_HEADER_BYTES. */
export function readSegmentStart(bytes: Buffer): SegmentStart {
  if (bytes.every(byte => byte === 0)) return { kind: 'cut' }
  const known = Math.min(bytes.length, MAGIC.length)
  if (!bytes.subarray(0, known).equals(MAGIC.subarray(0, known))) return { kind: 'foreign' }
  if (bytes.length < START_BYTES) return { kind: 'cut' }
  const digit = String.fromCharCode(bytes[MAGIC.length]!)
  if (!/[1-9]/.test(digit)) return { kind: 'foreign' }
  const format = Number(digit)
  if (format > TRACE_FORMAT) return { kind: 'newer', format }
  if (bytes.length < START_BYTES + 2) return { kind: 'cut' }
  const aboutBytes = bytes.readUInt16LE(START_BYTES)
  const length = START_BYTES + 2 + aboutBytes + 4
  if (aboutBytes > MAX_ABOUT_BYTES) return { kind: 'damaged' }
  if (bytes.length < length) return { kind: 'cut' }
  if (crc32(bytes.subarray(0, length - 4)) !== bytes.readUInt32LE(length - 4)) return { kind: 'damaged' }
  const about = aboutOf(bytes.toString('utf8', START_BYTES + 2, length - 4), format)
  return about === null ? { kind: 'damaged' } : { kind: 'segment', ...about, length }
}

function aboutOf(text: string, format: number): SegmentAbout | null {
  if (format === 1) return { process: text, cluster: null }
  const about: unknown = JSON.parse(text)
  if (typeof about !== 'object' || about === null) return null
  const { process, cluster } = about as { readonly process?: unknown; readonly cluster?: unknown }
  if (typeof process !== 'string' || (cluster !== undefined && typeof cluster !== 'string')) return null
  return { process, cluster: cluster ?? null }
}

export const MAX_SEGMENT_HEADER_BYTES = START_BYTES + 2 + MAX_ABOUT_BYTES + 4

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
  if (!Array.isArray(fields) || fields.length < 10 || level === undefined) throw new Error('no trace record')
  const [kind, recorder, causeProcess, causeSeq, host, vm, volume, disk, migration, body, order] = fields
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
    ...(order === undefined ? {} : { order }),
  }
}

/** Of a record whose head is there. */
export function sequenceOf(bytes: Buffer, at: number): number {
  return bytes.readDoubleLE(at + 32)
}

/** Likewise: its wall and its monotonic clock. */
export function timesOf(bytes: Buffer, at: number): { readonly wallMs: number; readonly at: number } {
  return { wallMs: wallOf(bytes, at), at: bytes.readDoubleLE(at + 24) }
}

/** Likewise: its wall time, ms. */
export function wallOf(bytes: Buffer, at: number): number {
  return bytes.readDoubleLE(at + 16)
}
