// What a piece would shrink to, by a look at a little of it.

import { randomBytes } from 'node:crypto'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { sampleRatio } from './sample.ts'

test('tells what shrinks from what does not, however it is cut', () => {
  const even = Buffer.alloc(MIB, 'a line of a log\n')
  const noise = randomBytes(MIB)
  for (const cut of [1, 100 * KIB, MIB - 1]) {
    expect(sampleRatio([even.subarray(0, cut), even.subarray(cut)])).toBeLessThan(0.05)
    expect(sampleRatio([noise.subarray(0, cut), noise.subarray(cut)])).toBeGreaterThan(0.95)
  }
})

test('looks at all of it, not at its beginning only', () => {
  const half = Buffer.concat([Buffer.alloc(MIB / 2), randomBytes(MIB / 2)])
  expect(sampleRatio([half])).toBeGreaterThan(0.4)
  expect(sampleRatio([half])).toBeLessThan(0.6)
})

test.each([0, 1, 100, 2 * KIB, 5 * KIB])('of a piece of %i bytes as well', bytes => {
  expect(sampleRatio([randomBytes(bytes)])).toBeGreaterThanOrEqual(1)
})
