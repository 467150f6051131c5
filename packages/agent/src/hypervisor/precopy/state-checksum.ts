// The CRC-32 of a machine's whole state, kept per page: pages that have not changed since their last round need no second
// look in the pause, and the per-page values are combined into the CRC of the concatenation in microseconds.

import { crc32 } from 'node:zlib'
import { assert, present } from '@stellwerk/runtime/assert.ts'

export const PAGE_BYTES = 4096

/** CRC-32's polynomial, reflected. */
const POLYNOMIAL = 0xedb88320

/** The CRC of a page of zeroes. */
export const ZERO_PAGE_CRC = crc32(new Uint8Array(PAGE_BYTES))

/** What appending one zero bit does to a CRC register, as a matrix over GF(2): row n is the image of bit n. */
function oneBitShift(): Uint32Array {
  const matrix = new Uint32Array(32)
  matrix[0] = POLYNOMIAL
  for (let n = 1; n < 32; n++) matrix[n] = 1 << (n - 1)
  return matrix
}

function times(matrix: Uint32Array, vector: number): number {
  let sum = 0
  for (let n = 0; vector !== 0; n++, vector >>>= 1) if (vector & 1) sum ^= present(matrix[n], 'row')
  return sum >>> 0
}

function product(a: Uint32Array, b: Uint32Array): Uint32Array {
  const result = new Uint32Array(32)
  for (let n = 0; n < 32; n++) result[n] = times(a, present(b[n], 'row'))
  return result
}

/** What appending `bytes` zero bytes does to a CRC: the one-bit shift to the power of 8 × bytes, by squaring. */
function zeroBytesShift(bytes: number): Uint32Array {
  let result: Uint32Array | null = null
  let power = oneBitShift()
  for (let bits = bytes * 8; bits > 0; bits = Math.floor(bits / 2)) {
    if (bits % 2 === 1) result = result === null ? power : product(power, result)
    power = product(power, power)
  }
  return present(result, 'a shift of at least one byte')
}

/** The shift by one page as four tables of a byte each, so that combining a page takes four look-ups. */
const PAGE_SHIFT = ((): readonly [Uint32Array, Uint32Array, Uint32Array, Uint32Array] => {
  const matrix = zeroBytesShift(PAGE_BYTES)
  const table = (byte: number) =>
    Uint32Array.from({ length: 256 }, (_, value) => times(matrix, (value << (8 * byte)) >>> 0))
  return [table(0), table(1), table(2), table(3)]
})()

/** The CRC-32 of A followed by B, from theirs and B's length. */
export function combineCrc(crcA: number, crcB: number, lengthB: number): number {
  if (lengthB === 0) return crcA
  return (times(zeroBytesShift(lengthB), crcA) ^ crcB) >>> 0
}

/** One CRC per page of a memory that starts as zeroes. */
export class PageChecksums {
  readonly #crcs: Uint32Array

  constructor(pages: number) {
    this.#crcs = new Uint32Array(pages).fill(ZERO_PAGE_CRC)
  }

  set(page: number, crc: number): void {
    assert(page >= 0 && page < this.#crcs.length, `page ${page} of ${this.#crcs.length}`)
    this.#crcs[page] = crc
  }

  /** The CRC-32 of all pages one after the other, then `registers`. */
  whole(registers: Uint8Array): number {
    const [t0, t1, t2, t3] = PAGE_SHIFT
    const crcs = this.#crcs
    let crc = 0
    for (let page = 0; page < crcs.length; page++) {
      const shifted = t0[crc & 255]! ^ t1[(crc >>> 8) & 255]! ^ t2[(crc >>> 16) & 255]! ^ t3[crc >>> 24]!
      crc = (shifted ^ crcs[page]!) >>> 0
    }
    return combineCrc(crc, crc32(registers), registers.length)
  }
}
