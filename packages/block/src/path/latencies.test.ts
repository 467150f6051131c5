import { expect, it } from 'vitest'
import { Latencies } from './latencies.ts'

it('tells the median of what came since a look last told one, if that is enough', () => {
  const latencies = new Latencies()
  expect([latencies.median, latencies.look(null), latencies.look(700)]).toEqual([null, null, 700])
  for (const ms of [1, 2, 3, 4, 5, 6, 7, 800]) latencies.add(ms)
  expect(latencies.look(5)).toBe(4)
  latencies.add(9)
  expect(latencies.look(5)).toBe(null)
  expect(latencies.median).toBe(5)
})

it('gathers the few of a path that is little used over some looks', () => {
  const latencies = new Latencies()
  for (let look = 0; look < 3; look += 1) {
    for (const ms of [90, 100]) latencies.add(ms)
    expect(latencies.look(null)).toBe(null)
  }
  for (const ms of [90, 100]) latencies.add(ms)
  expect([latencies.look(null), latencies.look(null)]).toEqual([90, null])
})

it('keeps the latest samples only', () => {
  const latencies = new Latencies()
  for (let i = 0; i < 1_000; i += 1) latencies.add(i < 900 ? 50 : 1)
  expect([latencies.median, latencies.look(null)]).toEqual([1, 1])
})
