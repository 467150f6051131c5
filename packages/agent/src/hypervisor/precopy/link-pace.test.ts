// How long a link takes for a byte, by when it asks for more.

import { MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { LinkPace } from './link-pace.ts'

const MS_PER_MIB = 8

function written(pace: LinkPace, times: number, stepMs: (n: number) => number, fullShare = 1): void {
  let now = 0
  pace.drained(now)
  for (let n = 0; n < times; n += 1) {
    const ms = stepMs(n)
    pace.written(MIB, now + ms * (1 - fullShare))
    now += ms
    pace.drained(now)
  }
}

/** Of a link that was full all along. */
function known(): LinkPace {
  const pace = new LinkPace()
  written(pace, 20, () => MS_PER_MIB)
  return pace
}

test('what was written from asking to asking has left in between', () => {
  expect(known().msPerByte * MIB).toBeCloseTo(MS_PER_MIB)
})

test('a window that takes many in no time and then none for as long makes no difference', () => {
  const pace = new LinkPace()
  written(pace, 100, n => (n % 4 === 3 ? 4 * MS_PER_MIB : 0))
  expect(pace.msPerByte * MIB).toBeCloseTo(MS_PER_MIB, -0.5)
})

test('nothing is known at first, nor of a link that mostly waits for more', () => {
  const young = new LinkPace()
  written(young, 2, () => MS_PER_MIB)
  expect(young.msPerByte).toBe(0)
  const slow = new LinkPace()
  written(slow, 2, () => 600)
  expect(slow.msPerByte * MIB).toBeCloseTo(600)
  const idle = new LinkPace()
  written(idle, 20, () => MS_PER_MIB, 0.1)
  expect(idle.msPerByte).toBe(0)
})

test('it follows a link that changes, and forgets one that is never full any more', () => {
  const pace = new LinkPace()
  written(pace, 200, n => (n < 100 ? MS_PER_MIB : 2 * MS_PER_MIB))
  expect(pace.msPerByte * MIB).toBeGreaterThan(1.9 * MS_PER_MIB)
  for (let n = 0; n < 65; n += 1) pace.written(MIB, null)
  expect([pace.msPerByte, pace.lastMsPerByte]).toEqual([0, 0])
})

test('what it was is not kept for a link that was measured anew, and is seldom full, or never', () => {
  const seldom = known()
  seldom.measureAnew()
  written(seldom, 20, () => MS_PER_MIB, 0.1)
  const never = known()
  never.measureAnew()
  for (let n = 0; n < 65; n += 1) never.written(MIB, null)
  expect([seldom.lastMsPerByte, never.lastMsPerByte]).toEqual([0, 0])
})

test('what is measured anew is not known, but what it was is', () => {
  const pace = known()
  pace.measureAnew()
  expect(pace.msPerByte).toBe(0)
  expect(pace.lastMsPerByte * MIB).toBeCloseTo(MS_PER_MIB)
})
