// The payloads of the handshake's options and replies, encoded and decoded. No state, no I/O.

import type { Caps, Limits } from '../device.ts'
import {
  decodeString,
  encodeString,
  FLAG_CAN_MULTI_CONN,
  FLAG_HAS_FLAGS,
  FLAG_READ_ONLY,
  FLAG_SEND_DF,
  FLAG_SEND_FAST_ZERO,
  FLAG_SEND_FLUSH,
  FLAG_SEND_FUA,
  FLAG_SEND_TRIM,
  FLAG_SEND_WRITE_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  MAGIC_OPTION_HI,
  MAGIC_OPTION_LO,
  MAGIC_OPTION_REPLY_HI,
  MAGIC_OPTION_REPLY_LO,
  MAX_REQUEST_BYTES,
  MAX_STRING_BYTES,
  OPTION_HEADER_BYTES,
  OPTION_REPLY_HEADER_BYTES,
  readU16,
  readU32,
  writeU16,
  writeU32,
  writeU64,
} from './wire.ts'

/** Queries in one meta context option; more are refused as too big. */
export const MAX_META_QUERIES = 32
/** Info types in one INFO or GO option. */
export const MAX_INFO_REQUESTS = 64

/** What to assume of a server that states no constraints. */
export const DEFAULT_LIMITS: Limits = { minimum: 1, preferred: 4096, maximum: MAX_REQUEST_BYTES }

export function transmissionFlags(caps: Caps, structured: boolean): number {
  let flags = FLAG_HAS_FLAGS
  if (caps.readOnly) flags |= FLAG_READ_ONLY
  if (caps.flush) flags |= FLAG_SEND_FLUSH
  if (caps.fua) flags |= FLAG_SEND_FUA
  if (caps.trim) flags |= FLAG_SEND_TRIM
  if (caps.zero) flags |= FLAG_SEND_WRITE_ZEROES
  if (caps.zero && caps.fastZero) flags |= FLAG_SEND_FAST_ZERO
  if (caps.multiConn) flags |= FLAG_CAN_MULTI_CONN
  if (structured) flags |= FLAG_SEND_DF
  return flags
}

/** Without HAS_FLAGS no other flag counts. */
export function capsOfFlags(flags: number, blockStatus: boolean): Caps {
  const has = (flag: number): boolean => (flags & FLAG_HAS_FLAGS) !== 0 && (flags & flag) !== 0
  return {
    readOnly: has(FLAG_READ_ONLY),
    flush: has(FLAG_SEND_FLUSH),
    fua: has(FLAG_SEND_FUA),
    trim: has(FLAG_SEND_TRIM),
    zero: has(FLAG_SEND_WRITE_ZEROES),
    fastZero: has(FLAG_SEND_WRITE_ZEROES) && has(FLAG_SEND_FAST_ZERO),
    blockStatus,
    multiConn: has(FLAG_CAN_MULTI_CONN),
  }
}

export function encodeOption(option: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(OPTION_HEADER_BYTES + data.length)
  writeU32(bytes, 0, MAGIC_OPTION_HI)
  writeU32(bytes, 4, MAGIC_OPTION_LO)
  writeU32(bytes, 8, option)
  writeU32(bytes, 12, data.length)
  bytes.set(data, OPTION_HEADER_BYTES)
  return bytes
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(OPTION_REPLY_HEADER_BYTES + data.length)
  writeU32(bytes, 0, MAGIC_OPTION_REPLY_HI)
  writeU32(bytes, 4, MAGIC_OPTION_REPLY_LO)
  writeU32(bytes, 8, option)
  writeU32(bytes, 12, type)
  writeU32(bytes, 16, data.length)
  bytes.set(data, OPTION_REPLY_HEADER_BYTES)
  return bytes
}

export interface InfoRequest {
  readonly name: string
  readonly infos: readonly number[]
}

export type Decoded<T> = { readonly value: T } | { readonly refuse: 'invalid' | 'too-big'; readonly message: string }

export function encodeInfoRequest(request: InfoRequest): Uint8Array {
  const name = encodeString(request.name)
  const bytes = new Uint8Array(6 + name.length + 2 * request.infos.length)
  writeU32(bytes, 0, name.length)
  bytes.set(name, 4)
  writeU16(bytes, 4 + name.length, request.infos.length)
  request.infos.forEach((info, index) => {
    writeU16(bytes, 6 + name.length + 2 * index, info)
  })
  return bytes
}

export function decodeInfoRequest(data: Uint8Array): Decoded<InfoRequest> {
  const name = takeString(data, 0, 'export name')
  if ('refuse' in name) return name
  const at = name.value.end
  if (data.length < at + 2) return invalid('no count of information requests')
  const count = readU16(data, at)
  if (data.length !== at + 2 + 2 * count) return invalid(`${count} information requests do not fill the option`)
  if (count > MAX_INFO_REQUESTS) return { refuse: 'too-big', message: `more than ${MAX_INFO_REQUESTS} requests` }
  const infos: number[] = []
  for (let index = 0; index < count; index += 1) infos.push(readU16(data, at + 2 + 2 * index))
  return { value: { name: name.value.text, infos } }
}

export interface MetaRequest {
  readonly name: string
  readonly queries: readonly string[]
}

export function encodeMetaRequest(request: MetaRequest): Uint8Array {
  const strings = [request.name, ...request.queries].map(encodeString)
  const bytes = new Uint8Array(4 + strings.reduce((sum, text) => sum + 4 + text.length, 0))
  let at = 0
  strings.forEach((text, index) => {
    writeU32(bytes, at, text.length)
    bytes.set(text, at + 4)
    at += 4 + text.length
    if (index === 0) {
      writeU32(bytes, at, request.queries.length)
      at += 4
    }
  })
  return bytes
}

export function decodeMetaRequest(data: Uint8Array): Decoded<MetaRequest> {
  const name = takeString(data, 0, 'export name')
  if ('refuse' in name) return name
  let at = name.value.end
  if (data.length < at + 4) return invalid('no count of queries')
  const count = readU32(data, at)
  at += 4
  if (count > MAX_META_QUERIES) return { refuse: 'too-big', message: `more than ${MAX_META_QUERIES} queries` }
  const queries: string[] = []
  for (let index = 0; index < count; index += 1) {
    const query = takeString(data, at, 'query')
    if ('refuse' in query) return query
    queries.push(query.value.text)
    at = query.value.end
  }
  if (at !== data.length) return invalid('bytes after the last query')
  return { value: { name: name.value.text, queries } }
}

export function encodeInfoExport(size: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(12)
  writeU16(bytes, 0, INFO_EXPORT)
  writeU64(bytes, 2, size)
  writeU16(bytes, 10, flags)
  return bytes
}

export function encodeInfoBlockSize(limits: Limits): Uint8Array {
  const bytes = new Uint8Array(14)
  writeU16(bytes, 0, INFO_BLOCK_SIZE)
  writeU32(bytes, 2, limits.minimum)
  writeU32(bytes, 6, limits.preferred)
  writeU32(bytes, 10, Math.min(limits.maximum, MAX_REQUEST_BYTES))
  return bytes
}

export function encodeInfoText(info: number, text: string): Uint8Array {
  const encoded = encodeString(text)
  const bytes = new Uint8Array(2 + encoded.length)
  writeU16(bytes, 0, info)
  bytes.set(encoded, 2)
  return bytes
}

/** Null unless the constraints are such as the document allows. */
export function decodeBlockSize(data: Uint8Array): Limits | null {
  if (data.length !== 14) return null
  const minimum = readU32(data, 2)
  const preferred = readU32(data, 6)
  const maximum = readU32(data, 10)
  const powerOfTwo = (value: number): boolean => value > 0 && Math.log2(value) % 1 === 0
  if (!powerOfTwo(minimum) || minimum > 65536) return null
  if (!powerOfTwo(preferred) || preferred < minimum) return null
  if (maximum < minimum || (maximum !== 0xffff_ffff && maximum % minimum !== 0)) return null
  return { minimum, preferred, maximum: Math.min(maximum, MAX_REQUEST_BYTES) }
}

export function encodeServerReply(name: string, description: string | undefined): Uint8Array {
  const encoded = encodeString(name)
  const text = description === undefined ? new Uint8Array(0) : encodeString(description)
  const bytes = new Uint8Array(4 + encoded.length + text.length)
  writeU32(bytes, 0, encoded.length)
  bytes.set(encoded, 4)
  bytes.set(text, 4 + encoded.length)
  return bytes
}

export function encodeMetaContext(id: number, name: string): Uint8Array {
  const encoded = encodeString(name)
  const bytes = new Uint8Array(4 + encoded.length)
  writeU32(bytes, 0, id)
  bytes.set(encoded, 4)
  return bytes
}

function invalid(message: string): { refuse: 'invalid'; message: string } {
  return { refuse: 'invalid', message }
}

function takeString(data: Uint8Array, at: number, what: string): Decoded<{ text: string; end: number }> {
  if (data.length < at + 4) return invalid(`no length of the ${what}`)
  const length = readU32(data, at)
  if (length > MAX_STRING_BYTES) {
    return { refuse: 'too-big', message: `the ${what} is longer than ${MAX_STRING_BYTES} bytes` }
  }
  if (data.length < at + 4 + length) return invalid(`the ${what} ends after the option`)
  const text = decodeString(data.subarray(at + 4, at + 4 + length))
  if (text === null) return invalid(`the ${what} is not UTF-8 without NUL`)
  return { value: { text, end: at + 4 + length } }
}
