// The hybrid logical clock keeps its two promises: order along messages, and closeness to wall time.

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { compareHlc, HLC_AHEAD_MAX_MS, HybridClock } from './hlc.ts'

test('stamps grow strictly even when the wall clock stands still or goes back', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 2 }), walls => {
      const clock = new HybridClock()
      const stamps = walls.map(wall => clock.stamp(wall))
      for (let i = 1; i < stamps.length; i++) expect(compareHlc(stamps[i]!, stamps[i - 1]!)).toBeGreaterThan(0)
    }),
  )
})

test('the stamp after a message is greater than the stamp that came with it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 5000 }), (here, there) => {
      const sender = new HybridClock()
      sender.stamp(there)
      const sent = sender.stamp(there)
      const receiver = new HybridClock()
      receiver.stamp(here)
      expect(receiver.observe(sent, here)).toBe(true)
      expect(compareHlc(receiver.stamp(here), sent)).toBeGreaterThan(0)
    }),
  )
})

test('wall time that moves on resets the counter', () => {
  const clock = new HybridClock()
  clock.stamp(5)
  expect(clock.stamp(5)).toEqual({ wallMs: 5, counter: 1 })
  expect(clock.stamp(6.7)).toEqual({ wallMs: 6, counter: 0 })
})

test('a stamp absurdly far ahead, or no number, is not followed', () => {
  const clock = new HybridClock()
  for (const wallMs of [HLC_AHEAD_MAX_MS + 1001, Number.NaN, Number.POSITIVE_INFINITY, 0.5]) {
    expect(clock.observe({ wallMs, counter: 0 }, 1000)).toBe(false)
  }
  expect(clock.observe({ wallMs: 1, counter: -1 }, 1000)).toBe(false)
  expect(clock.stamp(1000)).toEqual({ wallMs: 1000, counter: 0 })
})
