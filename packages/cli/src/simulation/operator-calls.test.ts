import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { expect, test } from 'vitest'
import { OperatorCalls, type Outcome } from './operator-calls.ts'

function setUp() {
  const sim = new Simulation({ seed: 1 })
  sim.program('coordinator', () => undefined)
  const process = sim.host('coord').spawn('coordinator', 'coordinator', {})
  return { sim, process, calls: new OperatorCalls(sim) }
}

test('a call hears its answer or its refusal, once, also when the process dies afterwards', async () => {
  const { sim, process, calls } = setUp()
  const heard: Outcome<number>[] = []
  calls.put(
    process,
    async () => 7,
    outcome => heard.push(outcome),
  )
  calls.put(
    process,
    () => Promise.reject(Object.assign(new Error('no'), { code: 'busy' })),
    outcome => heard.push(outcome),
  )
  await sim.runFor(10)
  process.kill()
  await sim.runFor(10)
  expect(heard).toEqual([
    { ok: true, reply: 7 },
    { ok: false, code: 'busy' },
  ])
})

test('a call whose process dies before it has answered hears that nobody is there', async () => {
  const { sim, process, calls } = setUp()
  const heard: Outcome<unknown>[] = []
  calls.put(
    process,
    () => new Promise(() => undefined),
    outcome => heard.push(outcome),
  )
  await sim.runFor(10)
  expect(heard).toEqual([])
  process.kill()
  await sim.runFor(10)
  expect(heard).toEqual([{ ok: false, code: 'coordinator-away' }])
})

test('a call put to a process that is dead already hears so, too', async () => {
  const { sim, process, calls } = setUp()
  await sim.runFor(10)
  process.kill()
  const heard: Outcome<unknown>[] = []
  calls.put(
    process,
    async () => 7,
    outcome => heard.push(outcome),
  )
  await sim.runFor(10)
  expect(heard).toEqual([{ ok: false, code: 'coordinator-away' }])
})
