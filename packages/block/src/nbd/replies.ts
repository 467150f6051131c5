// The server's replies, written into an outbox. No state, no I/O.

import { assert } from '@stellwerk/runtime/assert.ts'
import { totalLength } from '@stellwerk/runtime/parts.ts'
import type { BlockErrno, BlockExtent } from '../device.ts'
import type { Outbox } from './outbox.ts'
import type { Request } from './requests.ts'
import {
  encodeString,
  errnoValue,
  MAGIC_SIMPLE_REPLY,
  MAGIC_STRUCTURED_REPLY,
  REPLY_BLOCK_STATUS,
  REPLY_ERROR,
  REPLY_FLAG_DONE,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  SIMPLE_REPLY_BYTES,
  STATE_HOLE,
  STATE_ZERO,
  STRUCTURED_REPLY_BYTES,
  writeU16,
  writeU32,
  writeU64,
} from './wire.ts'

/** Descriptors in one status reply; the client asks again for the rest. */
export const MAX_STATUS_EXTENTS = 1024
/** The id the handshake gave base:allocation. */
const META_CONTEXT_ID = 1

/** Success without data. Simple replies are allowed for it in either mode, and shorter. */
export function sendDone(outbox: Outbox, request: Request): void {
  simple(outbox, request, 0)
}

export function sendError(
  outbox: Outbox,
  request: Request,
  structured: boolean,
  errno: BlockErrno,
  message: string,
): void {
  if (!structured) {
    simple(outbox, request, errnoValue(errno))
    return
  }
  const text = encodeString(message)
  const at = chunk(outbox, request, REPLY_ERROR, 6 + text.length, 6 + text.length)
  writeU32(outbox.slab, at, errnoValue(errno))
  writeU16(outbox.slab, at + 4, text.length)
  outbox.slab.set(text, at + 6)
}

/** All of the data in one chunk, which also keeps the promise of DF. */
export function sendRead(outbox: Outbox, request: Request, structured: boolean, parts: readonly Uint8Array[]): void {
  assert(totalLength(parts) === request.length, 'a device gave another length than was read')
  if (!structured) simple(outbox, request, 0)
  else if (request.length === 0) chunk(outbox, request, REPLY_NONE, 0, 0)
  else {
    const at = chunk(outbox, request, REPLY_OFFSET_DATA, 8 + request.length, 8)
    writeU64(outbox.slab, at, request.offset)
  }
  outbox.append(parts)
}

export function sendBlockStatus(
  outbox: Outbox,
  request: Request,
  onlyOne: boolean,
  extents: readonly BlockExtent[],
): void {
  const merged = mergeExtents(extents, request.length, onlyOne ? 1 : MAX_STATUS_EXTENTS)
  assert(merged.length > 0, 'a device gave no status')
  const length = 4 + 8 * merged.length
  const at = chunk(outbox, request, REPLY_BLOCK_STATUS, length, length)
  const slab = outbox.slab
  writeU32(slab, at, META_CONTEXT_ID)
  merged.forEach((extent, index) => {
    writeU32(slab, at + 4 + 8 * index, extent.length)
    writeU32(slab, at + 8 + 8 * index, extent.status)
  })
}

/** Neighbours of the same status become one; nothing reaches past the request. */
function mergeExtents(
  extents: readonly BlockExtent[],
  length: number,
  most: number,
): { length: number; status: number }[] {
  const merged: { length: number; status: number }[] = []
  let left = length
  for (const extent of extents) {
    const status = (extent.hole ? STATE_HOLE : 0) | (extent.zero ? STATE_ZERO : 0)
    const size = Math.min(extent.length, left)
    if (size === 0) continue
    left -= size
    const last = merged.at(-1)
    if (last !== undefined && last.status === status) last.length += size
    else if (merged.length === most) break
    else merged.push({ length: size, status })
  }
  return merged
}

function simple(outbox: Outbox, request: Request, error: number): void {
  const at = outbox.reserve(SIMPLE_REPLY_BYTES)
  const slab = outbox.slab
  writeU32(slab, at, MAGIC_SIMPLE_REPLY)
  writeU32(slab, at + 4, error)
  writeU32(slab, at + 8, request.cookieHi)
  writeU32(slab, at + 12, request.cookieLo)
}

/** A final chunk's header with room for `inline` bytes of its payload; gives the index of that room. */
function chunk(outbox: Outbox, request: Request, type: number, length: number, inline: number): number {
  const at = outbox.reserve(STRUCTURED_REPLY_BYTES + inline)
  const slab = outbox.slab
  writeU32(slab, at, MAGIC_STRUCTURED_REPLY)
  writeU16(slab, at + 4, REPLY_FLAG_DONE)
  writeU16(slab, at + 6, type)
  writeU32(slab, at + 8, request.cookieHi)
  writeU32(slab, at + 12, request.cookieLo)
  writeU32(slab, at + 16, length)
  return at + STRUCTURED_REPLY_BYTES
}
