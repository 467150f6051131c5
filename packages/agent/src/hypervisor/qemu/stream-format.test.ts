// The migration stream of a QEMU: what goes in comes out, in any chunks, and nothing damaged passes.

import { Buffer } from 'node:buffer'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Framed, MAGIC, StreamDecoder, StreamEncoder } from './stream-format.ts'

function encoded(pieces: readonly Uint8Array[], trailer: { readonly n: number }) {
  const encoder = new StreamEncoder()
  const parts = pieces.flatMap(piece => {
    const packed = zstdCompressSync(piece)
    // In parts where it goes as it is.
    return packed.length < piece.length
      ? encoder.piece([piece], packed)
      : encoder.piece([piece.subarray(0, 1), piece.subarray(1)])
  })
  return { bytes: Buffer.concat([...parts, ...encoder.end(trailer)]), checksum: encoder.checksum }
}

interface Received {
  readonly data: Buffer
  readonly end: Extract<Framed, { kind: 'end' }> | undefined
  readonly checksum: number
}

function decoded(bytes: Uint8Array, chunkBytes: number): Received {
  const decoder = new StreamDecoder()
  const data: Uint8Array[] = []
  let end: Received['end']
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    for (const framed of decoder.take(bytes.subarray(at, at + chunkBytes))) {
      if (framed.kind === 'end') end = framed
      else {
        const { body, sentBytes, length } = framed
        const raw = sentBytes === length ? body : [zstdDecompressSync(Buffer.concat(body))]
        decoder.check(raw, framed)
        data.push(...raw)
      }
    }
  }
  return { data: Buffer.concat(data), end, checksum: decoder.checksum }
}

const noise = fc.uint8Array({ minLength: 1, maxLength: 300 })
const even = fc.integer({ min: 100, max: 5_000 }).map(length => new Uint8Array(length).fill(length))
const Pieces = fc.array(fc.oneof(noise, even), { maxLength: 8 })

test('MIG3: arrives as it was sent, with the checksum of all of it and the trailer behind', () => {
  fc.assert(
    fc.property(Pieces, fc.integer({ min: 1, max: 400 }), fc.nat(), (pieces, chunkBytes, n) => {
      const { bytes, checksum } = encoded(pieces, { n })
      expect(decoded(bytes, chunkBytes)).toEqual({
        data: Buffer.concat(pieces),
        end: { kind: 'end', trailer: { n } },
        checksum,
      })
    }),
  )
})

test('a stream with one bit changed is refused or never ends', () => {
  const pieces = [Buffer.alloc(100, 7), Buffer.from('as it is'), Buffer.alloc(50, 9)]
  const { bytes: good } = encoded(pieces, { n: 1 })
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bad = Buffer.from(good)
    bad[bit >> 3]! ^= 1 << (bit & 7)
    let received: Received | undefined
    try {
      received = decoded(bad, 64)
    } catch (error) {
      expect((error as { code: string }).code).toMatch(/^(corrupt-data|ZSTD_error_.*|Z_.*|ERR_BUFFER_TOO_LARGE)$/)
    }
    // Of what zstd does not mind (a bit of its head that says nothing of the content) everything is as it was.
    if (received?.end !== undefined) expect(received.data).toEqual(Buffer.concat(pieces))
  }
})

test.each([
  ['a piece that is longer than any', [5_000_000, 10, 0]],
  ['a piece that packing has made longer', [10, 11, 0]],
  ['a piece of which nothing is sent', [10, 0, 0]],
  ['a trailer that is longer than any', [0, 5_000_000, 0]],
  ['a trailer of which nothing is sent', [0, 0, 0]],
])('%s is refused before it is waited for', (_, numbers) => {
  const head = Buffer.alloc(24)
  for (const [i, number] of numbers.entries()) head.writeUInt32LE(number, 4 * i)
  const bytes = Buffer.concat([MAGIC, head])
  expect(() => decoded(bytes, 7)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
})

test('MIG3: another state has another checksum, by content and by order', () => {
  const [a, b] = [Buffer.alloc(100, 7), Buffer.alloc(100, 8)]
  const checksums = [[a, b], [b, a], [a, a], [a], []].map(pieces => encoded(pieces, { n: 1 }).checksum)
  expect(new Set(checksums).size).toBe(checksums.length)
})

test('pieces that are whole but in another order, or one too few, are refused', () => {
  const encoder = new StreamEncoder()
  const [first, second] = [encoder.piece([Buffer.alloc(100, 7)]), encoder.piece([Buffer.alloc(100, 8)])]
  const end = encoder.end({ n: 1 })
  const [magic, ...rest] = first
  for (const parts of [
    [magic!, ...second, ...rest, ...end],
    [...first, ...end],
  ]) {
    expect(() => decoded(Buffer.concat(parts), 64)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
  }
})

test('what stands behind the end is refused', () => {
  const bytes = Buffer.concat([encoded([Buffer.from('x')], { n: 1 }).bytes, Buffer.from('y')])
  expect(() => decoded(bytes, 1)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
})
