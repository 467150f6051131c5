// Processes: death that takes effect at once, pauses, parents and children, power.

import { expect, test } from 'vitest'
import type { Child, Environment, Json } from '../environment.ts'
import { Simulation } from './simulation.ts'
import { run, sleep } from './test-support.ts'

test('nothing a killed process still does has an effect: trace, store, files, timers, children, messages', async () => {
  const sim = new Simulation({ seed: 1 })
  const after: string[] = []
  let calls = 0
  sim.program('child', () => undefined)
  const process = run(sim, 'a/p', async env => {
    const file = await env.files.open('f', { create: true })
    env.store.commit([{ put: 'k', value: 1 }])
    env.trace.emit({ level: 'decision', kind: 'die-here' })
    // Dead from here on, in the middle of a call.
    calls++
    env.trace.emit({ level: 'decision', kind: 'from-the-grave' })
    env.store.commit([{ put: 'k', value: 2 }])
    env.processes.spawn({ program: 'child', name: 'a/child', config: null })
    env.timers.after(0, () => after.push('timer'))
    void file.write(0, [new Uint8Array([1])]).then(() => after.push('write'))
    void file.sync().then(() => after.push('sync'))
    await Promise.resolve()
    calls++
    await env.files.writeAtomic('g', new Uint8Array(1))
    after.push('atomic')
  })
  sim.barrier('die-here', () => process.kill())
  await sim.runFor(1000)
  expect(calls).toBe(2)
  expect(after).toEqual([])
  expect(sim.trace.map(record => record.kind)).toEqual(['die-here', 'process.dead'])
  expect(sim.process('a/child')).toBe(null)
  expect(process.host.disk.file('a/p', 'f')?.size).toBe(0)
  expect(process.host.disk.file('a/p', 'g')).toBe(null)
  expect(process.host.disk.directory('a/p').store.get('k')).toBe(1)
  expect(process.exit).toEqual({ code: null, signal: 'SIGKILL' })
})

test('exit ends a process at once', async () => {
  const sim = new Simulation({ seed: 1 })
  const process = run(sim, 'a/p', env => {
    env.processes.exit(3)
    env.trace.emit({ level: 'decision', kind: 'too-late' })
  })
  await sim.runFor(10)
  expect(process.exit).toEqual({ code: 3, signal: null })
  expect(sim.trace.map(record => record.kind)).toEqual(['process.dead'])
})

test('a paused process runs nothing, its clock goes on, and what came meanwhile runs in order when it wakes', async () => {
  const sim = new Simulation({ seed: 1 })
  const seen: [string, number][] = []
  const process = run(sim, 'a/p', env => {
    for (const ms of [10, 20, 30, 5000]) env.timers.after(ms, () => seen.push([`t${ms}`, Math.round(sim.now)]))
    const cancelled = env.timers.after(25, () => seen.push(['cancelled', 0]))
    env.timers.after(15, () => cancelled.cancel())
  })
  await sim.runFor(5)
  process.pause()
  await sim.runFor(995)
  expect(seen).toEqual([])
  process.resume()
  await sim.runFor(9000)
  expect(seen).toEqual([
    ['t10', 1000],
    ['t20', 1000],
    ['t30', 1000],
    ['t5000', 5002],
  ])
})

test('what is due at the very instant of the resume comes after what was held', async () => {
  const sim = new Simulation({ seed: 1 })
  const seen: string[] = []
  const process = run(sim, 'a/p', env => {
    for (const ms of [10, 20, 998]) env.timers.after(ms, () => seen.push(`t${ms}`))
  })
  sim.at(5, () => process.pause())
  sim.at(1000, () => process.resume())
  await sim.runFor(1000)
  expect(seen).toEqual(['t10', 't20', 't998'])
})

test('a process paused at a record does nothing more to the world until it wakes', async () => {
  const sim = new Simulation({ seed: 1 })
  run(sim, 'a/server', async env => {
    await env.network.listenStream({ network: 'cluster', host: 'a', port: 1 }, stream => {
      stream.onData(chunk => env.trace.emit({ level: 'message', kind: 'got', body: chunk.byteLength }))
    })
  })
  const client = run(sim, 'b/client', async env => {
    await sleep(env, 10)
    const stream = await env.network.dialStream({ network: 'cluster', host: 'a', port: 1 })
    env.trace.emit({ level: 'decision', kind: 'about-to-send' })
    stream.write([new Uint8Array(5)])
  })
  sim.barrier('about-to-send', () => client.pause())
  await sim.runFor(500)
  expect(sim.trace.some(record => record.kind === 'got')).toBe(false)
  client.resume()
  await sim.runFor(500)
  expect(sim.trace.filter(record => record.kind === 'got').length).toBe(1)
  expect(sim.trace.filter(record => record.kind.startsWith('process.')).map(record => record.kind)).toEqual([
    'process.paused',
    'process.resumed',
  ])
})

function family(sim: Simulation, childMain: (env: Environment) => void) {
  const heard: Json[] = []
  let child: Child | null = null
  sim.program('child', childMain)
  const parent = run(sim, 'a/parent', env => {
    child = env.processes.spawn({ program: 'child', name: 'a/child', config: { x: 1 } })
    child.onMessage(message => heard.push(message))
    child.onExit(exit => heard.push({ exit: { ...exit } }))
    child.send({ hello: 'child' })
  })
  return { parent, heard, child: () => child as unknown as Child }
}

test('parent and child talk through a pipe, and the parent reaps', async () => {
  const sim = new Simulation({ seed: 1 })
  const { heard } = family(sim, env => {
    env.processes.parent?.onMessage(message => {
      env.processes.parent?.send({ echo: message })
      env.processes.exit(7)
    })
  })
  await sim.runFor(100)
  expect(heard).toEqual([{ echo: { hello: 'child' } }, { exit: { code: 7, signal: null } }])
})

test('a parent kills its child, also a paused one', async () => {
  const sim = new Simulation({ seed: 1 })
  const { heard, child } = family(sim, () => undefined)
  await sim.runFor(10)
  sim.process('a/child')?.pause()
  child().kill()
  await sim.runFor(10)
  expect(heard).toEqual([{ exit: { code: null, signal: 'SIGKILL' } }])
})

test('when the parent dies its children learn it and end, but a paused one stays until the successor kills it', async () => {
  const sim = new Simulation({ seed: 1 })
  const gone: string[] = []
  sim.program('listening', env => {
    env.processes.parent?.onGone(() => {
      gone.push(env.name)
      env.processes.exit(0)
    })
  })
  sim.program('plain', () => undefined)
  const parent = run(sim, 'a/guardian', env => {
    for (const [program, name] of [
      ['listening', 'a/one'],
      ['plain', 'a/two'],
      ['listening', 'a/frozen'],
    ] as const) {
      env.processes.spawn({ program, name, config: null })
    }
  })
  await sim.runFor(10)
  const frozen = sim.process('a/frozen')
  frozen?.pause()
  parent.kill()
  await sim.runFor(1000)
  expect(gone).toEqual(['a/one'])
  expect(['a/one', 'a/two', 'a/frozen'].map(name => sim.process(name)?.alive)).toEqual([false, false, true])

  let killed: readonly number[] = []
  run(sim, 'a/guardian', async env => {
    killed = await env.processes.killLeftovers()
  })
  await sim.runFor(10)
  expect(killed).toEqual([frozen?.pid])
  expect(frozen?.alive).toBe(false)
  expect(gone).toEqual(['a/one'])
})

test('stop asks a process to end in order, once, and ends one that does not listen', async () => {
  const sim = new Simulation({ seed: 1 })
  let asked = 0
  const polite = run(sim, 'a/polite', env => env.processes.onStop(() => void asked++))
  const deaf = run(sim, 'a/deaf', () => undefined)
  await sim.runFor(10)
  for (const process of [polite, polite, deaf]) process.stop()
  await sim.runFor(10)
  expect([asked, polite.alive, deaf.exit?.signal]).toEqual([1, true, 'SIGTERM'])
})

test('a power loss ends every process of a host and of no other; a restart draws other ids', async () => {
  const sim = new Simulation({ seed: 1 })
  const ids: string[] = []
  const main = (env: Environment) => void ids.push(env.random.id())
  const [one, two, other] = [run(sim, 'a/one', main), run(sim, 'a/two', main), run(sim, 'b/p', main)]
  await sim.runFor(10)
  sim.host('a').crash()
  expect([one.alive, two.alive, other.alive]).toEqual([false, false, true])
  expect(() => sim.host('a').spawn('a/one', 'a/one')).toThrow('power')
  sim.host('a').powerOn()
  const again = sim.host('a').spawn('a/one', 'a/one')
  await sim.runFor(10)
  expect(again.alive).toBe(true)
  expect(again.incarnation).toBe(2)
  expect(new Set(ids).size).toBe(4)
})

test('pausing a host pauses what runs on it', async () => {
  const sim = new Simulation({ seed: 1 })
  let ticks = 0
  const main = (env: Environment) => {
    const tick = () => {
      ticks++
      env.timers.after(10, tick)
    }
    tick()
  }
  run(sim, 'a/one', main)
  run(sim, 'a/two', main)
  await sim.runFor(100)
  const before = ticks
  sim.host('a').pause()
  await sim.runFor(100)
  expect(ticks).toBe(before)
  sim.host('a').resume()
  await sim.runFor(100)
  expect(ticks).toBeGreaterThan(before + 10)
})
