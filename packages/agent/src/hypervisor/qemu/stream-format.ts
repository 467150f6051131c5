// QEMU's migration stream on its way through ours: pieces, each with its length and the checksum of everything so far, and
// behind the last what the source hands over.
//
//   "SWQEMU1\n" · pieces: u32 length (> 0) · u32 CRC-32 of all pieces' bytes up to the end of this one · bytes
//   end: u32 0 · u32 length of the trailer · u32 CRC-32 of the trailer · trailer, JSON
//
// Numbers are little endian. The last piece's checksum stands for the guest's whole state (rule MIG3): what was loaded is
// what was sent.

import { crc32 } from 'node:zlib'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

const MAGIC = Buffer.from('SWQEMU1\n', 'latin1')
const PIECE_MAX_BYTES = 4 * MIB
const TRAILER_MAX_BYTES = 4 * MIB
const PIECE_HEAD_BYTES = 8
const END_HEAD_BYTES = 12

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

  piece(data: Uint8Array): Uint8Array[] {
    const parts: Uint8Array[] = this.#begin()
    for (let at = 0; at < data.length; at += PIECE_MAX_BYTES) {
      const piece = data.subarray(at, at + PIECE_MAX_BYTES)
      this.#checksum = crc32(piece, this.#checksum)
      this.#bytes += piece.length
      const head = Buffer.allocUnsafe(PIECE_HEAD_BYTES)
      head.writeUInt32LE(piece.length, 0)
      head.writeUInt32LE(this.#checksum, 4)
      parts.push(head, piece)
    }
    return parts
  }

  end(trailer: Json): Uint8Array[] {
    const bytes = Buffer.from(JSON.stringify(trailer), 'utf8')
    const head = Buffer.alloc(END_HEAD_BYTES)
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

export type Decoded =
  | { readonly kind: 'data'; readonly data: Uint8Array }
  | { readonly kind: 'end'; readonly checksum: number; readonly trailer: Json }

/** Takes the stream in any chunks. Throws `corrupt-data`. */
export class StreamDecoder {
  #buffered: Buffer = Buffer.alloc(0)
  #checksum = 0
  #begun = false
  #ended = false

  /** A piece is given when all of it is there, since it may be damaged. */
  take(chunk: Uint8Array): Decoded[] {
    this.#buffered = this.#buffered.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#buffered, chunk])
    const decoded: Decoded[] = []
    for (let one = this.#next(); one !== null; one = this.#next()) decoded.push(one)
    return decoded
  }

  #next(): Decoded | null {
    const at = this.#buffered
    if (!this.#begun) {
      if (at.length < MAGIC.length) return null
      if (!MAGIC.equals(at.subarray(0, MAGIC.length))) throw corrupt('it begins with something else')
      this.#begun = true
      this.#buffered = at.subarray(MAGIC.length)
      return this.#next()
    }
    if (this.#ended) {
      if (at.length > 0) throw corrupt('something stands behind its end')
      return null
    }
    if (at.length < PIECE_HEAD_BYTES) return null
    const length = at.readUInt32LE(0)
    if (length === 0) return this.#end()
    if (length > PIECE_MAX_BYTES) throw corrupt(`a piece of ${length} bytes`)
    if (at.length < PIECE_HEAD_BYTES + length) return null
    const data = at.subarray(PIECE_HEAD_BYTES, PIECE_HEAD_BYTES + length)
    this.#checksum = crc32(data, this.#checksum)
    if (this.#checksum !== at.readUInt32LE(4)) throw corrupt('a checksum does not match')
    this.#buffered = at.subarray(PIECE_HEAD_BYTES + length)
    return { kind: 'data', data }
  }

  #end(): Decoded | null {
    const at = this.#buffered
    if (at.length < END_HEAD_BYTES) return null
    const length = at.readUInt32LE(4)
    if (length > TRAILER_MAX_BYTES) throw corrupt(`a trailer of ${length} bytes`)
    if (at.length < END_HEAD_BYTES + length) return null
    const trailer = at.subarray(END_HEAD_BYTES, END_HEAD_BYTES + length)
    if (crc32(trailer) !== at.readUInt32LE(8)) throw corrupt('the checksum of its trailer does not match')
    this.#buffered = at.subarray(END_HEAD_BYTES + length)
    this.#ended = true
    return { kind: 'end', checksum: this.#checksum, trailer: JSON.parse(trailer.toString('utf8')) as Json }
  }
}

function corrupt(why: string): StellwerkError {
  return new StellwerkError('corrupt-data', `the migration stream is damaged: ${why}`)
}
