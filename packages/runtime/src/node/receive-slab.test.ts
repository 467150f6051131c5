// What was handed over stays as it was, whatever is read later; busy sockets get more room.

import { expect, test } from 'vitest'
import { KIB, MIB } from '../units.ts'
import { ReceiveSlab } from './receive-slab.ts'

/** As a read does: fills the room's start with one value. */
function read(slab: ReceiveSlab, length: number, value: number): Uint8Array {
  slab.room().fill(value, 0, length)
  return slab.take(length)
}

test('bytes that were handed over are never written again', () => {
  const slab = new ReceiveSlab()
  const chunks: Uint8Array[] = []
  for (let i = 0; i < 200; i += 1) chunks.push(read(slab, 1 + ((i * 7919) % (20 * KIB)), i % 251))
  for (const [i, chunk] of chunks.entries()) {
    expect(chunk.length).toBe(1 + ((i * 7919) % (20 * KIB)))
    expect(chunk.every(byte => byte === i % 251)).toBe(true)
  }
})

test('reads share a slab until it has little room left', () => {
  const slab = new ReceiveSlab()
  const [first, second] = [read(slab, 100, 1), read(slab, 100, 2)]
  expect(second.buffer).toBe(first.buffer)
  read(slab, slab.room().length - 10, 3)
  const next = read(slab, 100, 4)
  expect(next.buffer).not.toBe(first.buffer)
})

test('the room grows with reads that fill it, up to a bound, and not with others', () => {
  const quiet = new ReceiveSlab()
  for (let i = 0; i < 1000; i += 1) read(quiet, 1000, 1)
  expect(quiet.room().buffer.byteLength).toBe(64 * KIB)
  const busy = new ReceiveSlab()
  for (let i = 0; i < 10; i += 1) read(busy, busy.room().length, 1)
  expect(busy.room().buffer.byteLength).toBe(1 * MIB)
})
