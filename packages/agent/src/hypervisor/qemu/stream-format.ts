// QEMU's migration stream on its way through ours: pieces, each with its checksum, and behind the last what the source hands
// over.
//
//   "SWQEMU5\n" · pieces: u32 length (> 0) · u32 length as it is sent · 16 bytes, the checksum of the piece (piece-checksum.ts) ·
//   bytes; where it is sent shorter than it is, as zstd
//   end: u32 0 · u32 length of the trailer · 16 bytes, its checksum · trailer, JSON
//
// Numbers are little endian; pieces are counted from 0, the end along with them. The CRC-32 of all pieces' checksums stands for the
// guest's whole state (rule MIG3): what was loaded is what was sent.

import { crc32 } from 'node:zlib'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { totalLength } from '@stellwerk/runtime/parts.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { CHECKSUM_BYTES, pieceChecksum } from './piece-checksum.ts'

export const MAGIC = Buffer.from('SWQEMU5\n', 'latin1')
export const PIECE_MAX_BYTES = 4 * MIB
const TRAILER_MAX_BYTES = 4 * MIB
const HEAD_BYTES = 8 + CHECKSUM_BYTES

export class StreamEncoder {
  #checksum = 0
  #bytes = 0
  #pieces = 0
  #begun = false

  /** Of everything that was sent. */
  get checksum(): number {
    return this.#checksum
  }

  get bytes(): number {
    return this.#bytes
  }

  /** At most PIECE_MAX_BYTES; `packed`: the same as zstd, and shorter. */
  piece(data: readonly Uint8Array[], packed: Uint8Array | null = null): Uint8Array[] {
    const length = totalLength(data)
    assert(length > 0 && length <= PIECE_MAX_BYTES, `a piece of ${length} bytes`)
    assert(packed === null || packed.length < length, 'a piece is packed to be shorter')
    this.#bytes += length
    const checksum = pieceChecksum(this.#pieces++, length, data)
    this.#checksum = crc32(checksum, this.#checksum)
    const head = encodeHead({ length, sentBytes: packed?.length ?? length, checksum })
    return [...this.#begin(), head, ...(packed === null ? data : [packed])]
  }

  end(trailer: Json): Uint8Array[] {
    const bytes = Buffer.from(JSON.stringify(trailer), 'utf8')
    const checksum = pieceChecksum(this.#pieces, 0, [bytes])
    return [...this.#begin(), encodeHead({ length: 0, sentBytes: bytes.length, checksum }), bytes]
  }

  #begin(): Uint8Array[] {
    if (this.#begun) return []
    this.#begun = true
    return [MAGIC]
  }
}

export interface Piece {
  readonly kind: 'piece'
  /** Counted from 0. */
  readonly n: number
  /** As it came, in views of the chunks it came in; `sentBytes` of it. */
  readonly body: readonly Uint8Array[]
  /** Less than `length`: it is zstd. */
  readonly sentBytes: number
  readonly length: number
  readonly checksum: Uint8Array
}

export type Framed = Piece | { readonly kind: 'end'; readonly trailer: Json }

/**
 * Takes the stream in any chunks. What it gives is to be unpacked and checked, in its order. Throws `corrupt-data`. Of a guest's
 * memory nothing is copied: at the speed of a loopback each copy is a good part of all that is done.
 */
export class StreamDecoder {
  readonly #chunks = new ChunkQueue()
  #state: 'begin' | 'head' | 'body' | 'over' = 'begin'
  #head: Head = { length: 0, sentBytes: 0, checksum: Buffer.alloc(0) }
  #checksum = 0
  #pieces = 0

  /** Of all that was checked. */
  get checksum(): number {
    return this.#checksum
  }

  /** A piece is given when all of it is there. */
  take(chunk: Uint8Array): Framed[] {
    this.#chunks.push(chunk)
    const found: Framed[] = []
    while (this.#chunks.bytes > 0 && this.#chunks.bytes >= this.#needed()) {
      const one = this.#next()
      if (one !== null) found.push(one)
    }
    return found
  }

  /** Throws `corrupt-data` unless that is what stood in the piece. */
  check(data: readonly Uint8Array[], { n, length, checksum }: Piece): void {
    if (totalLength(data) !== length || !pieceChecksum(n, length, data).equals(checksum)) {
      throw corrupt('a checksum does not match')
    }
    this.#checksum = crc32(checksum, this.#checksum)
  }

  /** Bytes of the next thing that are waited for. */
  #needed(): number {
    switch (this.#state) {
      case 'begin':
        return MAGIC.length
      case 'head':
        return HEAD_BYTES
      case 'body':
        return this.#head.sentBytes
      case 'over':
        return 1
    }
  }

  /** Null: there is more of it to come. */
  #next(): Framed | null {
    switch (this.#state) {
      case 'begin':
        if (!MAGIC.equals(this.#chunks.joined(MAGIC.length))) throw corrupt('it begins with something else')
        this.#state = 'head'
        return null
      case 'head':
        this.#head = headOf(this.#chunks.joined(HEAD_BYTES))
        this.#state = 'body'
        return null
      case 'body':
        return this.#whole(this.#head)
      case 'over':
        throw corrupt('something stands behind its end')
    }
  }

  #whole({ length, sentBytes, checksum }: Head): Framed {
    this.#state = 'head'
    const n = this.#pieces++
    if (length > 0) return { kind: 'piece', n, body: this.#chunks.views(sentBytes), sentBytes, length, checksum }
    const trailer = this.#chunks.joined(sentBytes)
    if (!pieceChecksum(n, 0, [trailer]).equals(checksum)) throw corrupt('the checksum of its trailer does not match')
    this.#state = 'over'
    return { kind: 'end', trailer: jsonOf(trailer) }
  }
}

function jsonOf(trailer: Buffer): Json {
  try {
    return JSON.parse(trailer.toString('utf8')) as Json
  } catch (error) {
    throw corrupt(`its trailer is no JSON (${errorMessage(error)})`)
  }
}

/** `length` 0: of the trailer. */
interface Head {
  readonly length: number
  readonly sentBytes: number
  readonly checksum: Uint8Array
}

function encodeHead({ length, sentBytes, checksum }: Head): Buffer {
  const head = Buffer.allocUnsafe(HEAD_BYTES)
  head.writeUInt32LE(length, 0)
  head.writeUInt32LE(sentBytes, 4)
  head.set(checksum, 8)
  return head
}

function headOf(bytes: Buffer): Head {
  const length = bytes.readUInt32LE(0)
  const sentBytes = bytes.readUInt32LE(4)
  if (length > PIECE_MAX_BYTES) throw corrupt(`a piece of ${length} bytes`)
  if (length > 0 && (sentBytes === 0 || sentBytes > length)) {
    throw corrupt(`a piece of ${length} bytes that is ${sentBytes} long`)
  }
  if (sentBytes === 0 || sentBytes > TRAILER_MAX_BYTES) throw corrupt(`a trailer of ${sentBytes} bytes`)
  return { length, sentBytes, checksum: bytes.subarray(8) }
}

/** What has come and is not taken yet. */
class ChunkQueue {
  #chunks: Uint8Array[] = []
  bytes = 0

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.bytes += chunk.length
  }

  /** The next bytes, so many of them, which are there. */
  views(length: number): Uint8Array[] {
    assert(length <= this.bytes, `${length} of ${this.bytes} bytes`)
    let whole = 0
    let left = length
    for (let next = this.#chunks[0]; next !== undefined && next.length <= left; next = this.#chunks[whole]) {
      left -= next.length
      whole += 1
    }
    // All at once: one by one, many small chunks would be moved up for each of them.
    const views = this.#chunks.splice(0, whole)
    if (left > 0) {
      const first = this.#chunks[0]!
      views.push(first.subarray(0, left))
      this.#chunks[0] = first.subarray(left)
    }
    this.bytes -= length
    return views
  }

  joined(length: number): Buffer {
    return Buffer.concat(this.views(length), length)
  }
}

function corrupt(why: string): StellwerkError {
  return new StellwerkError('corrupt-data', `the migration stream is damaged: ${why}`)
}
