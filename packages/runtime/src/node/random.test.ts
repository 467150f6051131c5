// Randomness that can be forked: the same key and name give the same stream, another gives another.

import { expect, test } from 'vitest'
import { createRandom } from './random.ts'

const key = new Uint8Array(32).fill(7)
const draw = (random: ReturnType<typeof createRandom>) => Array.from({ length: 5 }, () => random.int(1e9))

test('the same key gives the same stream, another key another', () => {
  expect(draw(createRandom(key))).toEqual(draw(createRandom(key)))
  expect(draw(createRandom(key))).not.toEqual(draw(createRandom(key.slice().fill(8))))
  expect(draw(createRandom())).not.toEqual(draw(createRandom()))
})

test('a fork depends on its name alone, not on what was drawn before', () => {
  const one = createRandom(key)
  const two = createRandom(key)
  draw(two)
  expect(draw(one.fork('a'))).toEqual(draw(two.fork('a')))
  expect(draw(one.fork('a'))).not.toEqual(draw(one.fork('b')))
  expect(draw(one.fork('a').fork('b'))).not.toEqual(draw(one.fork('b').fork('a')))
})

test('floats fill [0, 1) evenly, integers their range', () => {
  const random = createRandom(key)
  const counts = new Array<number>(10).fill(0)
  for (let i = 0; i < 20_000; i++) {
    const x = random.float()
    expect(x >= 0 && x < 1).toBe(true)
    counts[random.int(10)]! += 1
  }
  for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(300)
  expect(() => random.int(0)).toThrow('positive bound')
})

test('ids have the length asked for, nanoid’s alphabet, and differ', () => {
  const random = createRandom()
  const ids = new Set(Array.from({ length: 1000 }, () => random.id()))
  expect(ids.size).toBe(1000)
  for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_-]{12}$/)
  expect(random.id(21)).toHaveLength(21)
  expect(random.bytes(5)).toHaveLength(5)
  expect(random.bytes(0)).toHaveLength(0)
})
