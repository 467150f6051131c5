// Records, their stamps, and barriers.

import { expect, test } from 'vitest'
import { compareHlc } from '../hlc.ts'
import { Simulation } from './simulation.ts'
import { run, sleep } from './test-support.ts'

test('records carry process, count, virtual time and a stamp that follows causality', async () => {
  const sim = new Simulation({ seed: 1 })
  sim.host('b').jumpWall(-60_000)
  run(sim, 'a/p', async env => {
    env.trace.emit({ level: 'decision', kind: 'cause' })
    const stamp = env.trace.stamp()
    sim.after(1, () => sim.emit({ level: 'decision', kind: 'carried', body: { ...stamp } }))
    run(sim, 'b/q', other => {
      other.trace.observe(stamp)
      const cause = other.trace.emit({ level: 'message', kind: 'effect', host: 'b' })
      other.trace.emit({ level: 'message', kind: 'second', cause })
    })
    await sleep(env, 1)
  })
  await sim.runFor(100)
  const [cause, , effect, second] = sim.trace
  expect([cause, effect, second].map(record => [record?.process, record?.seq, record?.kind])).toEqual([
    ['a/p', 1, 'cause'],
    ['b/q', 1, 'effect'],
    ['b/q', 2, 'second'],
  ])
  expect(second?.cause).toEqual({ process: 'b/q', seq: 1 })
  expect(compareHlc(cause?.hlc ?? { wallMs: 0, counter: 0 }, effect?.hlc ?? { wallMs: 0, counter: 0 })).toBeLessThan(0)
  expect(effect?.at).toBe(4)
})

test('levels that are off are not recorded, and a process can ask', async () => {
  const sim = new Simulation({ seed: 1, traceLevels: ['decision'] })
  const on: boolean[] = []
  run(sim, 'a/p', env => {
    on.push(env.trace.on('decision'), env.trace.on('io'))
    env.trace.emit({ level: 'io', kind: 'x' })
    env.trace.emit({ level: 'decision', kind: 'y' })
  })
  await sim.runFor(10)
  expect(on).toEqual([true, false])
  expect(sim.trace.map(record => [record.kind, record.seq])).toEqual([['y', 2]])
})

test('the newest records are kept, listeners hear all of them', async () => {
  const sim = new Simulation({ seed: 1, traceKeepMax: 10 })
  let heard = 0
  sim.onRecord(() => heard++)
  run(sim, 'a/p', env => {
    for (let i = 0; i < 100; i++) env.trace.emit({ level: 'io', kind: 'x', body: i })
  })
  await sim.runFor(10)
  expect(heard).toBe(100)
  expect(sim.trace.length).toBeLessThan(20)
  expect(sim.trace.at(-1)?.body).toBe(99)
})

test('a barrier acts at the matching record, inside the call, as often as told', async () => {
  const sim = new Simulation({ seed: 1 })
  const steps: string[] = []
  const process = run(sim, 'a/p', env => {
    for (const vm of ['web-1', 'web-2', 'web-3']) {
      steps.push(`before ${vm}`)
      env.trace.emit({ level: 'decision', kind: 'vm.run', vm })
    }
  })
  const once = sim.barrier('vm.run', record => steps.push(`first ${record.vm}`))
  const never = sim.barrier('vm.halt', () => steps.push('never'))
  const twice = sim.barrier(
    record => record.kind === 'vm.run' && record.vm !== 'web-1',
    record => {
      steps.push(`at ${record.vm}`)
      if (record.vm === 'web-3') sim.host('a').crash()
    },
    { times: 2 },
  )
  await sim.runFor(10)
  expect(steps).toEqual(['before web-1', 'first web-1', 'before web-2', 'at web-2', 'before web-3', 'at web-3'])
  expect([once.met.length, never.met.length, twice.met.length]).toEqual([1, 0, 2])
  expect(process.alive).toBe(false)
})

test('what pure cores are fed is told to who listens', async () => {
  const inputs: unknown[] = []
  const sim = new Simulation({ seed: 1, onCoreInput: input => inputs.push(input) })
  run(sim, 'a/p', env => {
    env.trace.snapshot('core', { n: 1 })
    env.trace.input('core', { add: 2 })
    env.trace.output('core', () => 3)
    env.trace.output('core', () => null)
  })
  await sim.runFor(10)
  expect(inputs).toEqual([
    { process: 'a/p', at: 2, kind: 'snapshot', core: 'core', value: { n: 1 } },
    { process: 'a/p', at: 2, kind: 'input', core: 'core', value: { add: 2 } },
    { process: 'a/p', at: 2, kind: 'output', core: 'core', value: 3 },
  ])
})
