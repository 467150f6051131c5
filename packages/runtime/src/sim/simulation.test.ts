// Virtual time, the order of events, and whose fault an error is.

import { expect, test } from 'vitest'
import { AssertionFailure, assert } from '../assert.ts'
import type { Environment } from '../environment.ts'
import { Simulation, SimulationFailure } from './simulation.ts'
import { run, sleep } from './test-support.ts'

test('events run in the order of time, and of scheduling where times are equal', async () => {
  const sim = new Simulation({ seed: 1 })
  const seen: string[] = []
  sim.after(5, () => seen.push('5a'))
  sim.after(1, () => seen.push('1'))
  sim.after(5, () => seen.push('5b'))
  sim.at(3, () => seen.push('3'))
  await sim.runFor(4)
  expect(seen).toEqual(['1', '3'])
  expect(sim.now).toBe(4)
  await sim.runFor(1)
  expect(seen).toEqual(['1', '3', '5a', '5b'])
  expect(sim.events).toBe(4)
})

test('a delay too small to change the sum passes time all the same: who waits for the rest of a deadline gets there', async () => {
  const sim = new Simulation({ seed: 1 })
  const times: number[] = []
  const wait = (): void => {
    times.push(sim.now)
    if (times.length < 4) sim.after(7e-12, wait)
  }
  sim.at(66_105.737, wait)
  await sim.runFor(70_000)
  expect(times).toHaveLength(4)
  expect([...new Set(times)].sort((a, b) => a - b)).toEqual(times)
})

test('what reaches a process comes in order, also when the scenario has just entered another one between two runs', async () => {
  const sim = new Simulation({ seed: 1 })
  sim.program('idle', () => undefined)
  const [one, other] = ['one', 'other'].map(name => sim.host(name).spawn('idle', name, {}))
  await sim.runFor(10)
  const seen: string[] = []
  for (const piece of ['first', 'second']) sim.schedule(1, null, () => other!.deliver(() => seen.push(piece)))
  sim.enter(one!, () => undefined)
  await sim.runFor(10)
  expect(seen).toEqual(['first', 'second'])
})

test('all microtasks of an event run before the next event', async () => {
  const sim = new Simulation({ seed: 1 })
  const seen: string[] = []
  sim.after(1, () => {
    void (async () => {
      for (let i = 0; i < 20; i++) await null
      seen.push('microtasks')
    })()
  })
  sim.after(1, () => seen.push('next'))
  await sim.runFor(2)
  expect(seen).toEqual(['microtasks', 'next'])
})

test('many cancelled timers leave the others in order', async () => {
  const sim = new Simulation({ seed: 1 })
  const seen: number[] = []
  run(sim, 'a/timers', env => {
    for (let i = 0; i < 5000; i++) {
      const at = (i * 7919) % 5003
      const timer = env.timers.after(at, () => seen.push(at))
      if (i % 3 !== 0) timer.cancel()
    }
  })
  await sim.runFor(6000)
  expect(seen.length).toBe(1667)
  expect(seen).toEqual([...seen].sort((a, b) => a - b))
})

test('runUntil stops at the event that made the predicate true, or says false at the limit', async () => {
  const sim = new Simulation({ seed: 1 })
  let count = 0
  for (let i = 1; i <= 10; i++) sim.at(i, () => count++)
  expect(await sim.runUntil(() => count === 4, 100)).toBe(true)
  expect(sim.now).toBe(4)
  expect(await sim.runUntil(() => count === 99, 50)).toBe(false)
  expect(sim.now).toBe(54)
})

test('a failed assertion in a process fails the run and names seed, time and process', async () => {
  const sim = new Simulation({ seed: 'lucky' })
  run(sim, 'a/buggy', env => void env.timers.after(10, () => assert(false, 'the cat is alive')))
  const failure = await sim.runFor(100).catch((error: unknown) => error)
  assert(failure instanceof SimulationFailure, 'it fails as a simulation')
  expect(failure.cause).toBeInstanceOf(AssertionFailure)
  expect(failure.message).toMatch(/seed lucky, at 12\.\d+ ms, in a\/buggy: the cat is alive/)
})

test('an assertion that fails behind an await nobody catches fails the run too', async () => {
  const sim = new Simulation({ seed: 1 })
  run(sim, 'a/buggy', env => {
    const later = async () => {
      await sleep(env, 5)
      assert(false, 'deep inside')
    }
    env.timers.after(1, () => void later())
  })
  await expect(sim.runFor(100)).rejects.toThrow('in a/buggy: deep inside')
})

test('an error of the world that nobody catches crashes its process only', async () => {
  const sim = new Simulation({ seed: 1 })
  const victim = run(sim, 'a/victim', async env => {
    await sleep(env, 5)
    throw new Error('disk on fire')
  })
  const rejecting = run(sim, 'a/rejecting', env => {
    env.timers.after(7, () => void Promise.reject(new Error('not awaited')))
  })
  const bystander = run(sim, 'a/bystander', () => undefined)
  await sim.runFor(100)
  expect(victim.exit).toEqual({ code: 1, signal: null })
  expect(rejecting.alive).toBe(false)
  expect(bystander.alive).toBe(true)
  expect(sim.crashes.map(crash => [crash.process, String(crash.error)])).toEqual([
    ['a/victim', 'Error: disk on fire'],
    ['a/rejecting', 'Error: not awaited'],
  ])
  expect(sim.trace.filter(record => record.kind === 'process.dead').length).toBe(2)
})

test("the scenario's own errors fail the run, also inside a barrier", async () => {
  const sim = new Simulation({ seed: 1 })
  const process = run(sim, 'a/p', env => void env.trace.emit({ level: 'decision', kind: 'hello' }))
  sim.barrier('hello', () => {
    throw new Error('bad scenario')
  })
  await expect(sim.runFor(10)).rejects.toThrow('in the scenario: bad scenario')
  expect(process.alive).toBe(true)
})

test('a loop of zero delays is found instead of running for ever', async () => {
  const sim = new Simulation({ seed: 1 })
  run(sim, 'a/loop', env => {
    const again = () => void env.timers.after(0, again)
    again()
  })
  await expect(sim.runFor(10)).rejects.toThrow('events at one instant')
})

test('clocks of hosts drift and jump; timers go by the local clock; monotonic time never goes back', async () => {
  const sim = new Simulation({ seed: 1 })
  sim.host('fast').setClockRate(1.005)
  const began = sim.host('fast').now()
  const rang: Record<string, number> = {}
  const clocks: Record<string, Environment> = {}
  for (const name of ['fast/p', 'true/p']) {
    run(sim, name, env => {
      clocks[name] = env
      const due = env.clock.now() + 10_000
      env.timers.after(10_000, () => {
        expect(env.clock.now()).toBeGreaterThanOrEqual(due)
        rang[name] = sim.now
      })
    })
  }
  await sim.runFor(20_000)
  expect(rang['true/p']).toBeCloseTo(10_002, 2)
  expect(rang['fast/p']).toBeCloseTo(2 + 10_000 / 1.005, 1)
  const { clock } = clocks['fast/p'] as Environment
  const [before, wall] = [clock.now(), clock.wall()]
  expect(before - began).toBeCloseTo(20_000 * 1.005, 3)
  sim.host('fast').jumpWall(-288_000)
  expect(clock.now()).toBe(before)
  expect(clock.wall()).toBeCloseTo(wall - 288_000, 3)
  sim.host('fast').setClockRate(0.9)
  expect(clock.now()).toBe(before)
})

test('the monotonic clocks of hosts have nothing in common, and start again with a boot', async () => {
  const sim = new Simulation({ seed: 1 })
  const [a, b] = [sim.host('a'), sim.host('b')]
  await sim.runFor(1000)
  expect(Math.abs(a.now() - b.now())).toBeGreaterThan(1000)
  expect(a.wall()).toBe(b.wall())
  a.crash()
  a.powerOn()
  expect(a.now()).toBe(5000)
  expect(a.wall()).toBe(b.wall())
})

test('a fork of the random numbers depends on its name only', () => {
  const a = new Simulation({ seed: 7 }).random
  const b = new Simulation({ seed: 7 }).random
  b.float()
  b.bytes(100)
  expect(a.fork('x').id()).toBe(b.fork('x').id())
  expect(a.fork('x').id()).not.toBe(a.fork('y').id())
  expect(new Simulation({ seed: 8 }).random.fork('x').id()).not.toBe(a.fork('x').id())
  const draws = Array.from({ length: 10_000 }, () => a.int(10))
  for (let digit = 0; digit < 10; digit++) {
    const share = draws.filter(draw => draw === digit).length
    expect(share).toBeGreaterThan(850)
    expect(share).toBeLessThan(1150)
  }
})

test('compression works inline, and damaged data is refused', async () => {
  const sim = new Simulation({ seed: 1 })
  let codes: unknown[] = []
  run(sim, 'a/p', async env => {
    const data = new Uint8Array(100_000).fill(7)
    const packed = await env.compute.compress(data)
    const unpacked = await env.compute.decompress(packed, data.byteLength)
    codes = [packed.byteLength < 1000, unpacked.byteLength]
    await env.compute.decompress(packed, 99_999).catch(error => codes.push(error.code))
    await env.compute.decompress(data, 10).catch(error => codes.push(error.code))
    expect(() => env.compute.startWorker(new URL('file:///x.ts'), null)).toThrow('no threads')
  })
  await sim.runFor(100)
  expect(codes).toEqual([true, 100_000, 'corrupt-data', 'corrupt-data'])
})
