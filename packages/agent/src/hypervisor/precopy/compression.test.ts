// What is compressed, on links and towards targets of different speeds.

import { MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { afterPiece, INITIAL_COMPRESSION, shouldCompress } from './compression.ts'

const PIECE = MIB
const RATIO = 0.3
/** Ms for a piece. */
const PACK_MS = 3

/** Sends so many pieces; `takes`: how long the stream takes one, by what is on the wire of it. */
function sent(pieces: number, takes: (wireBytes: number) => number, ratio = RATIO) {
  let state = INITIAL_COMPRESSION
  const packed: number[] = []
  let ms = 0
  for (let n = 0; n < pieces; n += 1) {
    const tries = shouldCompress(state)
    const packedBytes = PIECE * ratio
    const wireBytes = tries ? Math.min(PIECE, packedBytes) : PIECE
    if (tries) packed.push(n)
    const sendMs = takes(wireBytes)
    ms += sendMs + (tries ? PACK_MS : 0)
    state = afterPiece(state, { rawBytes: PIECE, wireBytes, packMs: tries ? PACK_MS : null, packedBytes, sendMs })
  }
  return { ms, packed }
}

test('what a link carries in no time goes as it is', () => {
  expect(sent(2_000, () => 0).packed).toEqual([])
})

test('on a link of 1 Gbit/s almost all is compressed, and it takes a good third of the time', () => {
  const link = (wireBytes: number) => (wireBytes / MIB) * 8.4
  const { ms, packed } = sent(1_024, link)
  expect(packed.length).toBeGreaterThan(950)
  expect(ms / (1_024 * 8.4)).toBeLessThan(0.7)
})

test('a target that is slow whatever is sent to it is found out by one stretch, and then left alone', () => {
  const { packed } = sent(500, () => 3)
  expect(packed.length).toBeGreaterThan(0)
  expect(packed.length).toBeLessThan(120)
  expect(Math.max(...packed)).toBeLessThan(150)
})

test('what can’t be made smaller is tried again now and then', () => {
  const { packed } = sent(1_000, wireBytes => (wireBytes / MIB) * 8.4, 1)
  expect(packed.length).toBeGreaterThan(1)
  expect(packed.length).toBeLessThan(60)
})

test('one that was slow for a while is tried again', () => {
  let n = 0
  const { packed } = sent(1_600, wireBytes => (n++ < 200 ? 3 : (wireBytes / MIB) * 8.4))
  expect(packed.filter(each => each > 800).length).toBeGreaterThan(500)
})
