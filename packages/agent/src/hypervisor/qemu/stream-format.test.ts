// The migration stream of a QEMU: what goes in comes out, in any chunks, and nothing damaged passes.

import { Buffer } from 'node:buffer'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Decoded, StreamDecoder, StreamEncoder } from './stream-format.ts'

function encoded(pieces: readonly Uint8Array[], trailer: { readonly n: number }): Buffer {
  const encoder = new StreamEncoder()
  return Buffer.concat([...pieces.flatMap(piece => encoder.piece(piece)), ...encoder.end(trailer)])
}

function decoded(bytes: Uint8Array, chunkBytes: number): Decoded[] {
  const decoder = new StreamDecoder()
  const found: Decoded[] = []
  for (let at = 0; at < bytes.length; at += chunkBytes) found.push(...decoder.take(bytes.subarray(at, at + chunkBytes)))
  return found
}

const Pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 8 })

test('MIG3: arrives as it was sent, with the checksum of all of it and the trailer behind', () => {
  fc.assert(
    fc.property(Pieces, fc.integer({ min: 1, max: 400 }), fc.nat(), (pieces, chunkBytes, n) => {
      const all = decoded(encoded(pieces, { n }), chunkBytes)
      const data = all.flatMap(one => (one.kind === 'data' ? [Buffer.from(one.data)] : []))
      const whole = Buffer.concat(pieces)
      expect(Buffer.concat(data)).toEqual(whole)
      expect(all.at(-1)).toEqual({ kind: 'end', checksum: whole.length === 0 ? 0 : crc32(whole), trailer: { n } })
    }),
  )
})

test('a stream with one bit changed is refused or never ends', () => {
  const pieces = [Buffer.alloc(100, 7), Buffer.alloc(50, 9)]
  const good = encoded(pieces, { n: 1 })
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bad = Buffer.from(good)
    bad[bit >> 3]! ^= 1 << (bit & 7)
    let last: Decoded | undefined
    try {
      last = decoded(bad, 64).at(-1)
    } catch (error) {
      expect(error).toMatchObject({ code: 'corrupt-data' })
    }
    expect(last?.kind).not.toBe('end')
  }
})

test('what stands behind the end is refused', () => {
  const bytes = Buffer.concat([encoded([Buffer.from('x')], { n: 1 }), Buffer.from('y')])
  expect(() => decoded(bytes, 1)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
})
