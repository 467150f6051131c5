// What every Clock and every Timers must do.

import { describe, expect, test } from 'vitest'
import { type RunInWorld, sleep } from './world.ts'

export function timeContract(name: string, run: RunInWorld): void {
  describe(`time of ${name}`, () => {
    test('the clock never goes back and moves with the timers', () =>
      run(async ({ left }) => {
        let last = left.clock.now()
        for (let i = 0; i < 5; i++) {
          await sleep(left, 1)
          expect(left.clock.now()).toBeGreaterThan(last)
          last = left.clock.now()
        }
      }))

    test('a timer never runs early, fractions of milliseconds included', () =>
      run(async ({ left }) => {
        for (const delay of [0, 0.3, 1.7, 5, 12.9]) {
          const start = left.clock.now()
          await sleep(left, delay)
          expect(left.clock.now() - start).toBeGreaterThanOrEqual(delay)
        }
      }))

    test('timers run in the order they are due, once each', () =>
      run(async ({ left }) => {
        const ran: string[] = []
        left.timers.after(90, () => ran.push('c'))
        left.timers.after(30, () => ran.push('a'))
        left.timers.after(60, () => ran.push('b'))
        await sleep(left, 150)
        expect(ran).toEqual(['a', 'b', 'c'])
      }))

    test('a timer never runs inside the call that sets it', () =>
      run(async ({ left }) => {
        let ran = false
        left.timers.after(0, () => {
          ran = true
        })
        expect(ran).toBe(false)
        await sleep(left, 5)
        expect(ran).toBe(true)
      }))

    test('a cancelled timer does not run, even if another cancels it at the same moment', () =>
      run(async ({ left }) => {
        const ran: string[] = []
        const early = left.timers.after(5, () => ran.push('early'))
        early.cancel()
        early.cancel()
        left.timers.after(10, () => {
          second.cancel()
          ran.push('cancelled')
        })
        const second = left.timers.after(10, () => ran.push('second'))
        await sleep(left, 30)
        // Which of two that are due within a millisecond comes first is no promise.
        expect([['cancelled'], ['second', 'cancelled']]).toContainEqual(ran)
      }))
  })
}
