// The NBD protocol's numbers and the big-endian reads and writes they need. No state, no I/O.

import { assert } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { totalLength } from '@stellwerk/runtime/parts.ts'
import { type BlockErrno, BlockError } from '../device.ts'

// 64-bit magics, as two 32-bit halves (a BigInt per message would cost more than the rest of the parsing).
export const MAGIC_INIT_HI = 0x4e42444d
export const MAGIC_INIT_LO = 0x41474943
export const MAGIC_OPTION_HI = 0x49484156
export const MAGIC_OPTION_LO = 0x454f5054
export const MAGIC_OLDSTYLE_HI = 0x00004202
export const MAGIC_OLDSTYLE_LO = 0x81861253
export const MAGIC_OPTION_REPLY_HI = 0x0003e889
export const MAGIC_OPTION_REPLY_LO = 0x045565a9
export const MAGIC_REQUEST = 0x25609513
export const MAGIC_SIMPLE_REPLY = 0x67446698
export const MAGIC_STRUCTURED_REPLY = 0x668e33ef

export const GREETING_BYTES = 18
export const CLIENT_FLAGS_BYTES = 4
export const OPTION_HEADER_BYTES = 16
export const OPTION_REPLY_HEADER_BYTES = 20
export const EXPORT_NAME_REPLY_BYTES = 10
export const EXPORT_NAME_PADDING_BYTES = 124
export const REQUEST_BYTES = 28
export const SIMPLE_REPLY_BYTES = 16
export const STRUCTURED_REPLY_BYTES = 20

export const HANDSHAKE_FIXED_NEWSTYLE = 1
export const HANDSHAKE_NO_ZEROES = 2

export const FLAG_HAS_FLAGS = 1 << 0
export const FLAG_READ_ONLY = 1 << 1
export const FLAG_SEND_FLUSH = 1 << 2
export const FLAG_SEND_FUA = 1 << 3
export const FLAG_SEND_TRIM = 1 << 5
export const FLAG_SEND_WRITE_ZEROES = 1 << 6
export const FLAG_SEND_DF = 1 << 7
export const FLAG_CAN_MULTI_CONN = 1 << 8
export const FLAG_SEND_FAST_ZERO = 1 << 11

export const OPT_EXPORT_NAME = 1
export const OPT_ABORT = 2
export const OPT_LIST = 3
export const OPT_STARTTLS = 5
export const OPT_INFO = 6
export const OPT_GO = 7
export const OPT_STRUCTURED_REPLY = 8
export const OPT_LIST_META_CONTEXT = 9
export const OPT_SET_META_CONTEXT = 10

export const REP_ACK = 1
export const REP_SERVER = 2
export const REP_INFO = 3
export const REP_META_CONTEXT = 4
export const REP_ERROR_BIT = 0x8000_0000
export const REP_ERR_UNSUP = 0x8000_0001
export const REP_ERR_POLICY = 0x8000_0002
export const REP_ERR_INVALID = 0x8000_0003
export const REP_ERR_PLATFORM = 0x8000_0004
export const REP_ERR_TLS_REQD = 0x8000_0005
export const REP_ERR_UNKNOWN = 0x8000_0006
export const REP_ERR_SHUTDOWN = 0x8000_0007
export const REP_ERR_BLOCK_SIZE_REQD = 0x8000_0008
export const REP_ERR_TOO_BIG = 0x8000_0009

export const INFO_EXPORT = 0
export const INFO_NAME = 1
export const INFO_DESCRIPTION = 2
export const INFO_BLOCK_SIZE = 3

export const CMD_READ = 0
export const CMD_WRITE = 1
export const CMD_DISC = 2
export const CMD_FLUSH = 3
export const CMD_TRIM = 4
export const CMD_WRITE_ZEROES = 6
export const CMD_BLOCK_STATUS = 7

export const CMD_FLAG_FUA = 1 << 0
export const CMD_FLAG_NO_HOLE = 1 << 1
export const CMD_FLAG_DF = 1 << 2
export const CMD_FLAG_REQ_ONE = 1 << 3
export const CMD_FLAG_FAST_ZERO = 1 << 4

export const REPLY_FLAG_DONE = 1
export const REPLY_NONE = 0
export const REPLY_OFFSET_DATA = 1
export const REPLY_OFFSET_HOLE = 2
export const REPLY_BLOCK_STATUS = 5
export const REPLY_ERROR_BIT = 0x8000
export const REPLY_ERROR = 0x8001
export const REPLY_ERROR_OFFSET = 0x8002

export const STATE_HOLE = 1
export const STATE_ZERO = 2
export const BASE_ALLOCATION = 'base:allocation'

/** Strings (names, queries, messages) are at most this long in UTF-8. */
export const MAX_STRING_BYTES = 4096
/** The longest read or write either side of ours takes part in. */
export const MAX_REQUEST_BYTES = 32 * 1024 * 1024
/** A write announcing more than this cannot be skipped in decent time: the connection ends. */
export const MAX_SKIPPED_BYTES = 4 * MAX_REQUEST_BYTES
/** A longer zero, trim or status is sent as several requests: the wire has 32 bits for a length. */
export const MAX_RANGE_BYTES = 1024 * 1024 * 1024

/** What the other side did wrong, or that it is gone; ends the connection. */
export class NbdError extends StellwerkError {
  constructor(
    code: 'nbd-protocol-error' | 'nbd-timeout' | 'nbd-lost' | 'nbd-limit' | 'nbd-unsupported' | 'nbd-cancelled',
    message: string,
    where: string,
    cause?: unknown,
  ) {
    super(code, message, { where, retryable: code === 'nbd-lost' || code === 'nbd-timeout', cause })
    this.name = 'NbdError'
  }
}

const REFUSAL_REPLIES = {
  unsupported: REP_ERR_UNSUP,
  policy: REP_ERR_POLICY,
  invalid: REP_ERR_INVALID,
  platform: REP_ERR_PLATFORM,
  'tls-required': REP_ERR_TLS_REQD,
  unknown: REP_ERR_UNKNOWN,
  shutdown: REP_ERR_SHUTDOWN,
  'block-size-required': REP_ERR_BLOCK_SIZE_REQD,
  'too-big': REP_ERR_TOO_BIG,
} as const

export type RefusalReply = keyof typeof REFUSAL_REPLIES

/**
 * An export was refused: thrown by an `NbdExports.open`, and what `connectNbd` rejects with at the other end, with the
 * same reply and text.
 */
export class NbdRefusal extends StellwerkError {
  readonly reply: RefusalReply

  constructor(reply: RefusalReply, message: string, where?: string) {
    super('nbd-refused', message, { ...(where === undefined ? {} : { where }), retryable: reply === 'shutdown' })
    this.name = 'NbdRefusal'
    this.reply = reply
  }
}

export function refusalType(reply: RefusalReply): number {
  return REFUSAL_REPLIES[reply]
}

/** A reply type we do not know counts as a matter of policy. */
export function refusalReply(type: number): RefusalReply {
  for (const [reply, value] of Object.entries(REFUSAL_REPLIES)) if (value === type) return reply as RefusalReply
  return 'policy'
}

const ERRNO_VALUES: Readonly<Record<BlockErrno, number>> = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
}
const ERRNO_BY_VALUE = new Map(Object.entries(ERRNO_VALUES).map(([name, value]) => [value, name as BlockErrno]))

export function errnoValue(errno: BlockErrno): number {
  return ERRNO_VALUES[errno]
}

/** The document: an error outside the list is to be taken as EINVAL. */
export function errnoName(value: number): BlockErrno {
  return ERRNO_BY_VALUE.get(value) ?? 'EINVAL'
}

/** What a device's rejection looks like on the wire; anything but a BlockError is an I/O error with its text. */
export function errnoOf(error: unknown): BlockErrno {
  return error instanceof BlockError ? error.errno : 'EIO'
}

export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}

/** A 64-bit number as a double: exact up to 2^53, and anything above stays above, so that range checks refuse it. */
export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) * 0x1_0000_0000 + readU32(bytes, at + 4)
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}

export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `not a 64-bit number we can carry: ${value}`)
  writeU32(bytes, at, Math.floor(value / 0x1_0000_0000))
  writeU32(bytes, at + 4, value >>> 0)
}

/** For handshake payloads and messages only, which are small: bulk data is never joined. */
export function joinSmall(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!
  const whole = new Uint8Array(totalLength(parts))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })
const lenient = new TextDecoder('utf-8')

/** A string as it goes on the wire, cut to the protocol's limit. */
export function encodeString(text: string): Uint8Array {
  const bytes = encoder.encode(text)
  if (bytes.length <= MAX_STRING_BYTES) return bytes
  let end = MAX_STRING_BYTES
  while ((bytes[end]! & 0xc0) === 0x80) end -= 1
  return bytes.subarray(0, end)
}

/** Null if it is not UTF-8, contains NUL or is too long. */
export function decodeString(bytes: Uint8Array): string | null {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return null
  try {
    return decoder.decode(bytes)
  } catch (error) {
    if (error instanceof TypeError) return null
    throw error
  }
}

/** For texts only shown to people: what is not UTF-8 is replaced. */
export function decodeMessage(bytes: Uint8Array): string {
  return lenient.decode(bytes)
}
