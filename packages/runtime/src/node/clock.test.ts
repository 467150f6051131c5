// The clock counts suspend, never goes back, and is not fooled by a wall clock that is set.

import { execFileSync } from 'node:child_process'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createClock } from './clock.ts'

/** A machine's three clocks, moved by hand. */
function machine() {
  let awake = 1000
  let asleep = 0
  let set = 0
  return {
    sources: {
      monotonicMs: () => awake,
      wallMs: () => 1e12 + awake + asleep + set,
      // Coarse, as /proc/uptime is.
      uptimeMs: () => Math.floor((awake + asleep) / 10) * 10,
    },
    run: (ms: number) => {
      awake += ms
    },
    suspend: (ms: number) => {
      asleep += ms
    },
    setWall: (ms: number) => {
      set += ms
    },
  }
}

test('the time of a suspend is counted at the first look after it', () => {
  const m = machine()
  const clock = createClock(m.sources)
  m.run(100)
  const before = clock.now()
  m.suspend(60_000)
  m.run(1)
  expect(clock.now() - before).toBeGreaterThan(59_980)
  expect(clock.now() - before).toBeLessThan(60_020)
})

test('setting the wall clock moves the monotonic clock nowhere', () => {
  const m = machine()
  const clock = createClock(m.sources)
  m.run(10)
  const before = clock.now()
  for (const ms of [3_600_000, -7_200_000, 15]) {
    m.setWall(ms)
    expect(clock.now()).toBe(before)
  }
})

test('a suspend hidden by a wall clock that was set back by as much is found within a second', () => {
  const m = machine()
  const clock = createClock(m.sources)
  m.suspend(5000)
  m.setWall(-5000)
  m.run(1100)
  expect(clock.now()).toBeGreaterThan(6080)
})

test('whatever happens, the clock never goes back and misses at most the slow clock’s tick', () => {
  const step = fc.tuple(fc.constantFrom('run', 'suspend', 'setWall'), fc.integer({ min: -5000, max: 5000 }))
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const m = machine()
      const clock = createClock(m.sources)
      const start = clock.now()
      let truth = 0
      let last = start
      for (const [what, ms] of steps) {
        if (what === 'setWall') m.setWall(ms)
        else {
          m[what as 'run' | 'suspend'](Math.abs(ms))
          truth += Math.abs(ms)
        }
        const now = clock.now()
        expect(now).toBeGreaterThanOrEqual(last)
        last = now
      }
      m.run(1001)
      // Each unnoticed suspend is shorter than the 50 ms that count as one, together they are found as soon as they pass it.
      expect(Math.abs(clock.now() - start - truth - 1001)).toBeLessThanOrEqual(70)
    }),
  )
})

test('a process that starts after a suspend reads the same as one that started before it', () => {
  const m = machine()
  const older = createClock(m.sources)
  m.run(300)
  m.suspend(60_000)
  m.run(2_000)
  const younger = createClock(m.sources)
  // Each has read the slow clock once, in its ticks.
  expect(Math.abs(younger.now() - older.now())).toBeLessThanOrEqual(20)
})

test('processes of this machine read the same time', () => {
  const source = `import('${new URL('./clock.ts', import.meta.url).href}').then(m => console.log(m.createClock().now()))`
  const clock = createClock()
  const before = clock.now()
  const theirs = Number(execFileSync(process.execPath, ['-e', source], { encoding: 'utf8' }))
  expect(theirs).toBeGreaterThan(before)
  expect(theirs).toBeLessThan(clock.now())
})

test('on this machine both clocks agree', () => {
  const clock = createClock()
  const start = clock.now()
  const end = performance.now() + 20
  while (performance.now() < end);
  expect(clock.now() - start).toBeGreaterThanOrEqual(20)
  expect(Math.abs(clock.wall() - Date.now())).toBeLessThan(1000)
})
