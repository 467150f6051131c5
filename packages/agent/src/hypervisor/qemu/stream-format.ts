// QEMU's migration stream on its way through ours: pieces, each with the checksum of everything so far, and behind the last what
// the source hands over.
//
//   "SWQEMU2\n" · pieces: u32 length (> 0) · u32 length as it is sent · u32 CRC-32 of all pieces' bytes up to the end of this one ·
//   bytes; where it is sent shorter than it is, as zstd
//   end: u32 0 · u32 length of the trailer · u32 CRC-32 of the trailer · trailer, JSON
//
// Numbers are little endian. The last piece's checksum stands for the guest's whole state (rule MIG3): what was loaded is
// what was sent.

import { crc32 } from 'node:zlib'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

const MAGIC = Buffer.from('SWQEMU2\n', 'latin1')
export const PIECE_MAX_BYTES = 4 * MIB
const TRAILER_MAX_BYTES = 4 * MIB
const HEAD_BYTES = 12

export class StreamEncoder {
  #checksum = 0
  #bytes = 0
  #begun = false

  /** CRC-32 of everything that was sent. */
  get checksum(): number {
    return this.#checksum
  }

  get bytes(): number {
    return this.#bytes
  }

  /** At most PIECE_MAX_BYTES; `packed`: the same as zstd, and shorter. */
  piece(data: readonly Uint8Array[], packed: Uint8Array | null = null): Uint8Array[] {
    let length = 0
    for (const part of data) {
      this.#checksum = crc32(part, this.#checksum)
      length += part.length
    }
    assert(length > 0 && length <= PIECE_MAX_BYTES, `a piece of ${length} bytes`)
    assert(packed === null || packed.length < length, 'a piece is packed to be shorter')
    this.#bytes += length
    const head = Buffer.allocUnsafe(HEAD_BYTES)
    head.writeUInt32LE(length, 0)
    head.writeUInt32LE(packed?.length ?? length, 4)
    head.writeUInt32LE(this.#checksum, 8)
    return [...this.#begin(), head, ...(packed === null ? data : [packed])]
  }

  end(trailer: Json): Uint8Array[] {
    const bytes = Buffer.from(JSON.stringify(trailer), 'utf8')
    const head = Buffer.alloc(HEAD_BYTES)
    head.writeUInt32LE(bytes.length, 4)
    head.writeUInt32LE(crc32(bytes), 8)
    return [...this.#begin(), head, bytes]
  }

  #begin(): Uint8Array[] {
    if (this.#begun) return []
    this.#begun = true
    return [MAGIC]
  }
}

export interface Piece {
  readonly kind: 'piece'
  /** As it was sent: zstd where it is shorter than `length`. */
  readonly body: Uint8Array
  readonly length: number
  readonly checksum: number
}

export type Framed = Piece | { readonly kind: 'end'; readonly trailer: Json }

/** Takes the stream in any chunks. What it gives is to be unpacked and checked, in its order. Throws `corrupt-data`. */
export class StreamDecoder {
  readonly #chunks: Uint8Array[] = []
  #buffered = 0
  /** Bytes that the next thing has, as far as is known. */
  #needed = MAGIC.length
  #checksum = 0
  #begun = false
  #ended = false

  /** Of all that was checked. */
  get checksum(): number {
    return this.#checksum
  }

  /** A piece is given when all of it is there. */
  take(chunk: Uint8Array): Framed[] {
    this.#chunks.push(chunk)
    this.#buffered += chunk.length
    const found: Framed[] = []
    while (this.#buffered >= this.#needed && this.#buffered > 0) {
      // Joined only when something is whole: pieces have many chunks.
      const all = this.#joined()
      this.#chunks.splice(0, this.#chunks.length, all)
      const one = this.#next(Buffer.from(all.buffer, all.byteOffset, all.byteLength))
      if (one !== null) found.push(one)
    }
    return found
  }

  /** Throws `corrupt-data` unless that is what stood in the piece. */
  check(data: Uint8Array, { length, checksum }: Piece): void {
    this.#checksum = crc32(data, this.#checksum)
    if (data.length !== length || this.#checksum !== checksum) throw corrupt('a checksum does not match')
  }

  #joined(): Uint8Array {
    const [only] = this.#chunks
    return this.#chunks.length === 1 && only !== undefined ? only : Buffer.concat(this.#chunks)
  }

  /** Null: the next thing is longer than what is needed so far, or the beginning. */
  #next(at: Buffer): Framed | null {
    if (this.#ended) throw corrupt('something stands behind its end')
    if (!this.#begun) {
      if (!MAGIC.equals(at.subarray(0, MAGIC.length))) throw corrupt('it begins with something else')
      this.#begun = true
      this.#drop(at, MAGIC.length)
      return null
    }
    const length = at.readUInt32LE(0)
    const sent = at.readUInt32LE(4)
    if (length > PIECE_MAX_BYTES) throw corrupt(`a piece of ${length} bytes`)
    if (length > 0 && (sent === 0 || sent > length)) throw corrupt(`a piece of ${length} bytes that is ${sent} long`)
    if (sent > TRAILER_MAX_BYTES) throw corrupt(`a trailer of ${sent} bytes`)
    this.#needed = HEAD_BYTES + sent
    if (at.length < this.#needed) return null
    const body = at.subarray(HEAD_BYTES, HEAD_BYTES + sent)
    const checksum = at.readUInt32LE(8)
    this.#drop(at, HEAD_BYTES + sent)
    if (length > 0) return { kind: 'piece', body, length, checksum }
    if (crc32(body) !== checksum) throw corrupt('the checksum of its trailer does not match')
    this.#ended = true
    this.#needed = 1
    return { kind: 'end', trailer: JSON.parse(body.toString('utf8')) as Json }
  }

  #drop(at: Buffer, bytes: number): void {
    this.#needed = HEAD_BYTES
    this.#chunks[0] = at.subarray(bytes)
    this.#buffered -= bytes
  }
}

function corrupt(why: string): StellwerkError {
  return new StellwerkError('corrupt-data', `the migration stream is damaged: ${why}`)
}
