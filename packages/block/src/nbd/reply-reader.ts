// Reads the replies of an NBD server and settles the requests they belong to: simple replies, structured chunks in any
// order, holes, errors, block status. Anything malformed is thrown as an NbdError out of the parser.

import { assert } from '@stellwerk/runtime/assert.ts'
import { type BlockErrno, BlockError, type BlockExtent, type Outcome } from '../device.ts'
import type { ExportFacts } from './client-handshake.ts'
import type { StreamParser } from './stream-parser.ts'
import {
  CMD_BLOCK_STATUS,
  CMD_READ,
  decodeMessage,
  errnoName,
  joinSmall,
  MAGIC_SIMPLE_REPLY,
  MAGIC_STRUCTURED_REPLY,
  NbdError,
  REPLY_BLOCK_STATUS,
  REPLY_ERROR_BIT,
  REPLY_ERROR_OFFSET,
  REPLY_FLAG_DONE,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  readU16,
  readU32,
  readU64,
  SIMPLE_REPLY_BYTES,
  STATE_HOLE,
  STATE_ZERO,
  STRUCTURED_REPLY_BYTES,
} from './wire.ts'

/** An error chunk or a status chunk longer than this is not believed. */
export const MAX_CHUNK_BYTES = 1024 * 1024
/** Content chunks of one reply: one for every sector of the longest read, and a few. */
export const MAX_CONTENT_CHUNKS = 65_536 + 16

/** Views of zeroes for holes; whoever reads must not write into what a device gave. */
const ZEROES = new Uint8Array(256 * 1024)

interface Content {
  readonly offset: number
  readonly length: number
  readonly parts: readonly Uint8Array[]
}

export interface Pending {
  readonly type: number
  readonly offset: number
  readonly length: number
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  error: { errno: BlockErrno; message: string } | null
  /** Content chunks, when there is more than one. */
  chunks: Content[] | null
  /** The only content chunk so far: it covers the whole read. */
  parts: Uint8Array[] | BlockExtent[] | null
  got: number
}

/** Requests in flight by slot; the cookie is (generation, slot), so that a late reply to a former user is noticed. */
export class PendingTable {
  readonly #most: number
  readonly #slots: (Pending | null)[] = []
  readonly #generations: number[] = []
  readonly #free: number[] = []
  size = 0

  constructor(most: number) {
    this.#most = most
  }

  get full(): boolean {
    return this.size >= this.#most
  }

  add(pending: Pending): number {
    const slot = this.#free.pop() ?? this.#slots.length
    if (slot === this.#slots.length) {
      this.#slots.push(null)
      this.#generations.push(0)
    }
    assert(this.#slots[slot] === null, 'a slot in use')
    this.#slots[slot] = pending
    this.size += 1
    return slot
  }

  generation(slot: number): number {
    return this.#generations[slot]!
  }

  get(generation: number, slot: number): Pending | null {
    if (slot >= this.#slots.length || this.#generations[slot] !== generation) return null
    return this.#slots[slot]!
  }

  remove(slot: number): void {
    this.#slots[slot] = null
    this.#generations[slot] = (this.#generations[slot]! + 1) >>> 0
    this.#free.push(slot)
    this.size -= 1
  }

  takeAll(): Pending[] {
    const all: Pending[] = []
    this.#slots.forEach((pending, slot) => {
      if (pending === null) return
      all.push(pending)
      this.remove(slot)
    })
    return all
  }
}

export interface ReplyHost {
  readonly peer: string
  settled(): void
}

export class ReplyReader {
  readonly #parser: StreamParser
  readonly #table: PendingTable
  readonly #facts: ExportFacts
  readonly #host: ReplyHost
  // The reply being read.
  #pending: Pending | null = null
  #slot = 0
  #done = false
  #type = 0
  #chunkOffset = 0
  #chunkLength = 0

  constructor(parser: StreamParser, table: PendingTable, facts: ExportFacts, host: ReplyHost) {
    this.#parser = parser
    this.#table = table
    this.#facts = facts
    this.#host = host
  }

  start(): void {
    this.#parser.header(SIMPLE_REPLY_BYTES, this.#onHeader)
  }

  /** Both kinds have a magic and the cookie in their first 16 bytes. */
  readonly #onHeader = (bytes: Uint8Array, at: number): void => {
    const magic = readU32(bytes, at)
    if (magic !== MAGIC_SIMPLE_REPLY && magic !== MAGIC_STRUCTURED_REPLY) throw this.#violation('bad magic')
    const slot = readU32(bytes, at + 12)
    const pending = this.#table.get(readU32(bytes, at + 8), slot)
    if (pending === null) throw this.#violation('a reply to no request in flight')
    this.#pending = pending
    this.#slot = slot
    if (magic === MAGIC_SIMPLE_REPLY) {
      this.#onSimple(pending, readU32(bytes, at + 4))
      return
    }
    if (!this.#facts.structured) throw this.#violation('a structured reply that was not agreed on')
    this.#done = (readU16(bytes, at + 4) & REPLY_FLAG_DONE) !== 0
    this.#type = readU16(bytes, at + 6)
    this.#parser.header(STRUCTURED_REPLY_BYTES - SIMPLE_REPLY_BYTES, this.#onChunkLength)
  }

  #onSimple(pending: Pending, error: number): void {
    if (pending.got > 0 || pending.error !== null) throw this.#violation('a simple reply after chunks')
    if (pending.type === CMD_READ && this.#facts.structured) throw this.#violation('a simple reply to a read')
    if (error !== 0) {
      const errno = errnoName(error)
      pending.error = { errno, message: `the server answered ${errno} (${error})` }
    } else if (pending.type === CMD_BLOCK_STATUS) throw this.#violation('a simple reply to a status request')
    else if (pending.type === CMD_READ) {
      this.#parser.payload(pending.length, this.#onSimpleData)
      return
    }
    this.#settle(pending)
  }

  readonly #onSimpleData = (parts: Uint8Array[]): void => {
    const pending = this.#pending!
    pending.parts = parts
    pending.got = pending.length
    this.#settle(pending)
  }

  readonly #onChunkLength = (bytes: Uint8Array, at: number): void => {
    const pending = this.#pending!
    const length = readU32(bytes, at)
    const type = this.#type
    this.#chunkLength = length
    if (type === REPLY_NONE) {
      if (length !== 0 || !this.#done) throw this.#violation('a closing chunk with data or without its flag')
      this.#afterChunk(pending)
    } else if (type === REPLY_OFFSET_DATA) {
      if (pending.type !== CMD_READ || length < 9) throw this.#violation('data nobody asked for')
      this.#parser.header(8, this.#onDataOffset)
    } else if (type === REPLY_OFFSET_HOLE) {
      if (pending.type !== CMD_READ || length !== 12) throw this.#violation('a hole nobody asked for')
      this.#parser.header(12, this.#onHole)
    } else if (type === REPLY_BLOCK_STATUS) {
      const wrong = pending.type !== CMD_BLOCK_STATUS || length < 12 || (length - 4) % 8 !== 0
      if (wrong || length > MAX_CHUNK_BYTES) throw this.#violation('a malformed status')
      this.#parser.payload(length, this.#onStatus)
    } else if ((type & REPLY_ERROR_BIT) !== 0) {
      if (length < 6 || length > MAX_CHUNK_BYTES) throw this.#violation(`an error chunk of ${length} bytes`)
      this.#parser.payload(length, this.#onError)
    } else throw this.#violation(`an unknown chunk of type ${type}`)
  }

  readonly #onDataOffset = (bytes: Uint8Array, at: number): void => {
    this.#chunkOffset = readU64(bytes, at)
    this.#checkContent(this.#pending!, this.#chunkOffset, this.#chunkLength - 8)
    this.#parser.payload(this.#chunkLength - 8, this.#onData)
  }

  readonly #onData = (parts: Uint8Array[]): void => {
    this.#addContent(this.#pending!, this.#chunkOffset, this.#chunkLength - 8, parts)
  }

  readonly #onHole = (bytes: Uint8Array, at: number): void => {
    const offset = readU64(bytes, at)
    const length = readU32(bytes, at + 8)
    if (length === 0) throw this.#violation('an empty hole')
    this.#checkContent(this.#pending!, offset, length)
    const parts: Uint8Array[] = []
    for (let done = 0; done < length; done += ZEROES.length) {
      parts.push(ZEROES.subarray(0, Math.min(ZEROES.length, length - done)))
    }
    this.#addContent(this.#pending!, offset, length, parts)
  }

  /** Before the data is taken in, so that no more is held than was asked for. */
  #checkContent(pending: Pending, offset: number, length: number): void {
    const inside = offset >= pending.offset && offset + length <= pending.offset + pending.length
    if (!inside || pending.got + length > pending.length) throw this.#violation('data outside the request, or twice')
  }

  #addContent(pending: Pending, offset: number, length: number, parts: Uint8Array[]): void {
    pending.got += length
    if (length === pending.length) pending.parts = parts
    else {
      pending.chunks ??= []
      if (pending.chunks.length >= MAX_CONTENT_CHUNKS) throw this.#violation('data in too many pieces')
      pending.chunks.push({ offset, length, parts })
    }
    this.#afterChunk(pending)
  }

  readonly #onStatus = (parts: Uint8Array[]): void => {
    const pending = this.#pending!
    const data = joinSmall(parts)
    if (readU32(data, 0) !== this.#facts.allocationContext) throw this.#violation('the status of another context')
    if (pending.got > 0) throw this.#violation('the status twice')
    const extents: BlockExtent[] = []
    let left = pending.length
    for (let at = 4; at < data.length; at += 8) {
      const length = readU32(data, at)
      if (length === 0 || left === 0) throw this.#violation('a status that does not fit the request')
      const flags = readU32(data, at + 4)
      // The last extent may reach past the request: servers tell what they know.
      extents.push({
        length: Math.min(length, left),
        hole: (flags & STATE_HOLE) !== 0,
        zero: (flags & STATE_ZERO) !== 0,
      })
      left -= Math.min(length, left)
    }
    pending.parts = extents
    pending.got = pending.length - left
    this.#afterChunk(pending)
  }

  readonly #onError = (parts: Uint8Array[]): void => {
    const pending = this.#pending!
    const data = joinSmall(parts)
    const error = readU32(data, 0)
    const length = readU16(data, 4)
    const tail = this.#type === REPLY_ERROR_OFFSET ? 8 : 0
    if (error === 0 || 6 + length + tail > data.length) throw this.#violation('a malformed error chunk')
    const errno = errnoName(error)
    const text = decodeMessage(data.subarray(6, 6 + length))
    pending.error ??= { errno, message: text === '' ? `the server answered ${errno} (${error})` : text }
    this.#afterChunk(pending)
  }

  #afterChunk(pending: Pending): void {
    if (this.#done) this.#settle(pending)
    else this.start()
  }

  #settle(pending: Pending): void {
    this.#table.remove(this.#slot)
    this.#pending = null
    this.start()
    if (pending.error !== null) {
      const { errno, message } = pending.error
      pending.reject(new BlockError(errno, outcomeOf(pending.type, errno), message, { where: this.#host.peer }))
    } else if (pending.type === CMD_READ) pending.resolve(this.#assemble(pending))
    else if (pending.type === CMD_BLOCK_STATUS) {
      if (pending.parts === null) throw this.#unfinished(pending, 'success without a status')
      pending.resolve(pending.parts)
    } else pending.resolve(undefined)
    this.#host.settled()
  }

  #assemble(pending: Pending): Uint8Array[] {
    if (pending.got !== pending.length) throw this.#unfinished(pending, 'success without all of the data')
    if (pending.parts !== null) return pending.parts as Uint8Array[]
    const chunks = pending.chunks!.sort((a, b) => a.offset - b.offset)
    const parts: Uint8Array[] = []
    let at = pending.offset
    for (const chunk of chunks) {
      if (chunk.offset !== at) throw this.#unfinished(pending, 'data that overlaps')
      at += chunk.length
      for (const part of chunk.parts) parts.push(part)
    }
    return parts
  }

  /** The request has left the table: it is rejected here, the others with the connection. */
  #unfinished(pending: Pending, message: string): NbdError {
    const error = this.#violation(message)
    pending.reject(new BlockError('ESHUTDOWN', 'none', error.message, { where: this.#host.peer, cause: error }))
    return error
  }

  #violation(message: string): NbdError {
    return new NbdError('nbd-protocol-error', `malformed reply: ${message}`, this.#host.peer)
  }
}

/**
 * Some are given before anything is done; after any other a write may be there in part. A server that answers is done with
 * the request, but for one that is going down: what it had begun may still land.
 */
function outcomeOf(type: number, errno: BlockErrno): Outcome {
  if (type === CMD_READ || type === CMD_BLOCK_STATUS) return 'none'
  switch (errno) {
    case 'EPERM':
    case 'EINVAL':
    case 'ENOTSUP':
    case 'EOVERFLOW':
      return 'none'
    case 'ESHUTDOWN':
      return 'unknown'
    default:
      return 'partial'
  }
}
