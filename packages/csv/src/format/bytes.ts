// Reading and writing binary structures: little-endian, 64-bit numbers as safe integers, strings with a length byte.
// Knows no structure of the volume.

import { assert } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const TWO_32 = 0x1_0000_0000
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * TWO_32 + view.getUint32(offset, true)
}

export function setU64(view: DataView, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `not an unsigned safe integer: ${value}`)
  view.setUint32(offset, value % TWO_32, true)
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true)
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** A string padded with zero bytes to a fixed length. */
export function setText(bytes: Uint8Array, offset: number, length: number, text: string): void {
  const encoded = encoder.encode(text)
  assert(encoded.length <= length, `text too long for its field of ${length} bytes: ${text}`)
  bytes.fill(0, offset, offset + length)
  bytes.set(encoded, offset)
}

export function getText(bytes: Uint8Array, offset: number, length: number): string {
  let end = offset
  while (end < offset + length && bytes[end] !== 0) end += 1
  return decoder.decode(bytes.subarray(offset, end))
}

/** Appends to a buffer that grows. */
export class ByteWriter {
  #bytes: Uint8Array
  #view: DataView
  #length = 0

  constructor(sizeHint = 256) {
    this.#bytes = new Uint8Array(sizeHint)
    this.#view = viewOf(this.#bytes)
  }

  get length(): number {
    return this.#length
  }

  u8(value: number): void {
    this.#room(1)
    this.#view.setUint8(this.#length, value)
    this.#length += 1
  }

  u32(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value < TWO_32, `not an unsigned 32-bit number: ${value}`)
    this.#room(4)
    this.#view.setUint32(this.#length, value, true)
    this.#length += 4
  }

  u64(value: number): void {
    this.#room(8)
    setU64(this.#view, this.#length, value)
    this.#length += 8
  }

  text(value: string): void {
    const encoded = encoder.encode(value)
    assert(encoded.length <= 255, `text longer than 255 bytes: ${value}`)
    this.u8(encoded.length)
    this.#room(encoded.length)
    this.#bytes.set(encoded, this.#length)
    this.#length += encoded.length
  }

  /** What was written; the writer must not be used any more. */
  take(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  #room(length: number): void {
    const needed = this.#length + length
    if (needed <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
    grown.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = grown
    this.#view = viewOf(grown)
  }
}

/** Reads what a ByteWriter wrote; running past the end is `malformed`, an error of the world. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = viewOf(bytes)
  }

  get remaining(): number {
    return this.#bytes.length - this.#at
  }

  u8(): number {
    return this.#view.getUint8(this.#step(1))
  }

  u32(): number {
    return this.#view.getUint32(this.#step(4), true)
  }

  u64(): number {
    const value = getU64(this.#view, this.#step(8))
    if (!Number.isSafeInteger(value)) throw malformed('a number beyond 2^53')
    return value
  }

  text(): string {
    const length = this.u8()
    const start = this.#step(length)
    try {
      return decoder.decode(this.#bytes.subarray(start, start + length))
    } catch (error) {
      throw new StellwerkError('malformed', 'a text that is not UTF-8', { cause: error })
    }
  }

  #step(length: number): number {
    const start = this.#at
    if (length > this.remaining) throw malformed('it ends too early')
    this.#at = start + length
    return start
  }
}

export function malformed(what: string): StellwerkError {
  return new StellwerkError('malformed', `a structure on the volume does not decode: ${what}`)
}
