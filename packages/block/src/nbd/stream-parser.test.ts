import { totalLength } from '@stellwerk/runtime/parts.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StreamParser } from './stream-parser.ts'

type Piece = { kind: 'header' | 'payload' | 'skip'; bytes: Uint8Array }

/** Feeds `pieces` as chunks cut at `cuts` and gives what the parser handed over. */
function parse(pieces: readonly Piece[], cuts: readonly number[], holdAt: ReadonlySet<number>): Piece[] {
  const wire = Buffer.concat(pieces.map(piece => piece.bytes))
  const parser = new StreamParser()
  const seen: Piece[] = []
  let index = 0
  const done = (bytes: Uint8Array): void => {
    const piece = pieces[index]!
    seen.push({ kind: piece.kind, bytes: Uint8Array.from(bytes) })
    index += 1
    if (holdAt.has(index)) parser.hold()
    next()
  }
  const next = (): void => {
    const piece = pieces[index]
    if (piece === undefined) return
    const length = piece.bytes.length
    if (piece.kind === 'header') parser.header(length, (bytes, at) => done(bytes.subarray(at, at + length)))
    else if (piece.kind === 'payload') parser.payload(length, parts => done(Buffer.concat(parts)))
    else parser.skip(length, () => done(piece.bytes))
  }
  next()
  const ends = [...new Set(cuts.map(cut => cut % (wire.length + 1)))].sort((a, b) => a - b)
  // Nothing moves before the first chunk, not even a payload of no bytes.
  parser.push(new Uint8Array(0))
  let from = 0
  for (const end of [...ends, wire.length]) {
    if (end > from) parser.push(wire.subarray(from, end))
    from = end
    parser.release()
  }
  while (parser.held) parser.release()
  return seen
}

const piece: fc.Arbitrary<Piece> = fc.oneof(
  fc.record({ kind: fc.constant('header' as const), bytes: fc.uint8Array({ minLength: 1, maxLength: 32 }) }),
  fc.record({ kind: fc.constant('payload' as const), bytes: fc.uint8Array({ maxLength: 200 }) }),
  fc.record({ kind: fc.constant('skip' as const), bytes: fc.uint8Array({ maxLength: 100 }) }),
)

describe('stream parser', () => {
  it('hands over the same pieces however the stream is cut, and wherever it is held', () => {
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 12 }),
        fc.array(fc.nat(2000), { maxLength: 30 }),
        fc.array(fc.nat(12), { maxLength: 4 }),
        (pieces, cuts, holds) => {
          expect(parse(pieces, cuts, new Set(holds))).toEqual(
            pieces.map(({ kind, bytes }) => ({ kind, bytes: Uint8Array.from(bytes) })),
          )
        },
      ),
      { numRuns: 500 },
    )
  })

  it('gives a payload as views of its chunks: nothing is joined or copied', () => {
    const parser = new StreamParser()
    const chunks = [new Uint8Array(1000), new Uint8Array(3000)]
    let got: Uint8Array[] = []
    parser.payload(3500, parts => {
      got = parts
    })
    for (const chunk of chunks) parser.push(chunk)
    expect(totalLength(got)).toBe(3500)
    expect(got.map(part => part.buffer)).toEqual(chunks.map(chunk => chunk.buffer))
    expect(got[0]!.buffer).toBe(chunks[0]!.buffer)
  })

  it('refuses to store what a stream delivers against a pause without end', () => {
    const parser = new StreamParser()
    parser.header(1, () => undefined)
    parser.hold()
    expect(() => {
      for (let count = 0; count < 1000; count += 1) parser.push(new Uint8Array(1))
    }).toThrowError(expect.objectContaining({ code: 'nbd-limit' }))
  })
})
