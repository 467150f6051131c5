// Sessions and actors over the simulated network with its faults: every request ends once, in time, and peace brings the
// sessions back. One test goes over the real network, to know that it is the same there.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { expect, test } from 'vitest'
import { CONNECT_MS, PersistentSession } from './persistent-session.ts'
import type { Identity, Session } from './session.ts'
import { bindSession } from './session-bridge.ts'
import { dialSession, listenSessions } from './session-handshake.ts'
import { echo, testRegistry } from './testing/echo-family.ts'

const ADDRESS = { network: 'cluster', host: 'c', port: 7000 } as const
const HOSTS = ['a', 'b', 'd']
const DEADLINE_MS = 400
const handshake = { registry: testRegistry, handshakeMs: 500 }
const identity = (node: string, role: Identity['role']): Identity => ({
  cluster: 'sim',
  node,
  role,
  incarnation: 1,
  credential: 'token',
})

interface Outcome {
  readonly host: string
  readonly asked: number
  readonly code: string
  readonly tookMs: number
}

/** The decider: one actor that answers. Each incoming session is bound under its peer's name. */
async function coordinator(env: Environment): Promise<void> {
  const system = new ActorSystem({ env, local: ['c'] })
  system.spawn('c/echo', {
    receive: (message, context) => {
      if (message.kind === 'echo.say') context.reply(message, { text: echo.body('echo.say', message).text })
    },
  })
  const serve = (session: Session) => void bindSession(system, session, { remotePrefix: session.peer.node })
  await listenSessions(env, ADDRESS, identity('c', 'coordinator'), () => ({ ok: true }), serve, handshake)
}

/** A doer: an actor that asks every 50 ms, and notes how each request ended. */
function agent(host: string, outcomes: Outcome[], asked: Map<string, number>) {
  return (env: Environment): void => {
    const system = new ActorSystem({ env, local: [host] })
    const waiting = new Map<number, { number: number; at: number }>()
    let number = 0
    system.spawn(`${host}/asker`, {
      started: context => void context.after(50, 'tick', null),
      receive: (message, context) => {
        if (message.kind === 'tick') {
          context.after(50, 'tick', null)
          number += 1
          asked.set(host, number)
          const text = `${host} ${number}`
          waiting.set(context.request('c/echo', 'echo.say', { text }, DEADLINE_MS), { number, at: env.clock.now() })
          return
        }
        const request = waiting.get(message.re ?? 0)
        if (request === undefined) throw new Error(`an answer to what was not asked, or was answered: ${message.re}`)
        waiting.delete(message.re!)
        if (message.error === undefined && echo.body('echo.say', message).text !== `${host} ${request.number}`) {
          throw new Error(`the answer to another request: ${JSON.stringify(message.body)}`)
        }
        const code = message.error?.code ?? 'ok'
        outcomes.push({ host, asked: request.number, code, tookMs: env.clock.now() - request.at })
      },
    })
    const persistent = new PersistentSession({
      env,
      address: () => ADDRESS,
      class: 'control',
      identity: identity(host, 'agent'),
      handshake,
      onUp: session => void bindSession(system, session, { remotePrefix: 'c' }),
    })
    persistent.start()
  }
}

async function run(seed: number) {
  const sim = new Simulation({ seed })
  const outcomes: Outcome[] = []
  const asked = new Map<string, number>()
  sim.program('c', coordinator)
  sim.host('c').spawn('c', 'c/coordinator')
  for (const host of HOSTS) {
    sim.program(host, agent(host, outcomes, asked))
    sim.host(host).spawn(host, `${host}/agent`)
  }
  await sim.runFor(1000)
  const random = sim.random.fork('faults')
  for (let i = 0; i < 8; i++) {
    const host = HOSTS[random.int(HOSTS.length)]!
    const faults = [
      () => sim.network.cut(host, 'c', { oneWay: random.int(2) === 0 }),
      () => sim.network.reset({ from: host, to: 'c', bothWays: true }),
      () => sim.network.slow({ from: host, to: 'c', bothWays: true }, { delayMs: random.int(600), loss: 0.1 }),
      () => {
        sim.process('c/coordinator')?.kill()
        sim.after(random.int(1500), () => sim.host('c').spawn('c', 'c/coordinator'))
      },
      () => sim.host(host).pause(),
    ]
    faults[random.int(faults.length)]!()
    await sim.runFor(random.int(3000))
    if (random.int(3) === 0) sim.network.healAll()
    for (const paused of HOSTS) sim.host(paused).resume()
    await sim.runFor(1600)
  }
  sim.network.healAll()
  // A link that was cut is noticed by keepalive (10 s), then redialled within the backoff.
  await sim.runFor(25_000)
  const calmFrom = new Map(asked)
  await sim.runFor(2000)
  return { sim, outcomes, asked, calmFrom }
}

test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])(
  'over faults every request ends once and in time, and all is well after (seed %i)',
  async seed => {
    const { sim, outcomes, asked, calmFrom } = await run(seed)
    expect(sim.crashes).toEqual([])
    const codes = new Set(outcomes.map(outcome => outcome.code))
    for (const code of codes) expect(['ok', 'deadline', 'link-lost', 'link-busy', 'no-such-actor']).toContain(code)
    // Not vacuous: something went wrong in this run.
    expect(codes.size).toBeGreaterThan(1)
    for (const host of HOSTS) {
      const own = outcomes.filter(outcome => outcome.host === host)
      const numbers = own.map(outcome => outcome.asked).sort((x, y) => x - y)
      // All but the last few, which still wait.
      const ended = asked.get(host)! - DEADLINE_MS / 50 - 2
      expect(numbers.slice(0, ended)).toEqual(Array.from({ length: ended }, (_, i) => i + 1))
      const calm = own.filter(outcome => outcome.asked > calmFrom.get(host)!)
      expect(calm.length).toBeGreaterThan(20)
      expect(new Set(calm.map(outcome => outcome.code))).toEqual(new Set(['ok']))
      // A paused host's timers ring late; nobody else's do.
      const late = own.filter(outcome => outcome.tookMs > DEADLINE_MS + 5)
      expect(late.length).toBeLessThan(60)
    }
  },
)

test('the same seed gives the same run', async () => {
  const [one, two] = [await run(21), await run(21)]
  expect(one.sim.traceHash()).toBe(two.sim.traceHash())
  expect(one.outcomes).toEqual(two.outcomes)
})

test('a dial into a machine that is down does not wait for it when that is back: another one is there soon', async () => {
  const sim = new Simulation({ seed: 1 })
  let upAt: number | null = null
  sim.program('c', coordinator)
  sim.program('a', (env: Environment): void => {
    new PersistentSession({
      env,
      address: () => ADDRESS,
      class: 'control',
      identity: identity('a', 'agent'),
      backoff: { minMs: 20, maxMs: 500 },
      handshake: { registry: testRegistry },
      onUp: () => {
        upAt = sim.now
      },
    }).start()
  })
  sim.host('c').spawn('c', 'c/coordinator')
  sim.host('c').crash()
  sim.host('a').spawn('a', 'a/agent')
  await sim.runFor(CONNECT_MS + 200)
  expect(upAt).toBe(null)
  sim.host('c').powerOn()
  sim.host('c').spawn('c', 'c/coordinator')
  await sim.runFor(CONNECT_MS + 500)
  expect(upAt).not.toBe(null)
})

test('over the real network it is the same', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-session-'))
  const make = (name: string) =>
    createEnvironment({
      name,
      directory: join(directory, name.replace('/', '-')),
      store: memoryStore(),
      logLevel: 'silent',
    })
  const far = make('coordinator')
  const near = make('host-a/agent')
  try {
    const serve = (session: Session): void =>
      session.onMessage((envelope, reply) => {
        if (envelope.kind === 'echo.bytes') reply.ok({ sizes: [echo.body('echo.bytes', envelope).data.byteLength] })
        else if (reply.wanted) reply.ok({ text: echo.body('echo.say', envelope).text })
      })
    const address = { network: 'cluster', host: '127.0.0.1', port: 0 } as const
    const listener = await listenSessions(
      far,
      address,
      identity('c', 'coordinator'),
      () => ({ ok: true }),
      serve,
      handshake,
    )
    const session = await dialSession(near, listener.address, 'io', identity('host-a', 'agent'), handshake)
    const texts = Array.from({ length: 500 }, (_, i) => `message ${i}`)
    const answers = await Promise.all(texts.map(text => echo.request(session, 'echo.say', { text }, 10_000)))
    expect(answers.map(answer => answer.text)).toEqual(texts)
    // Twice the link's window: credit must come back.
    const sizes = await Promise.all(
      Array.from({ length: 20 }, () =>
        echo.request(session, 'echo.bytes', { data: new Uint8Array(1_600_000) }, 20_000).catch(errorCode),
      ),
    )
    expect(sizes.filter(size => size !== 'link-busy').length).toBeGreaterThan(9)
    expect(sizes.every(size => size === 'link-busy' || JSON.stringify(size) === '{"sizes":[1600000]}')).toBe(true)
    const wrong = { ...identity('host-a', 'agent'), credential: 'guess' }
    const refusal = await dialSession(near, listener.address, 'io', wrong, handshake).catch(errorCode)
    expect(refusal).toBe('bad-credential')
    const waiting = session.request('echo.say', { text: 'x' }, 10_000).catch(errorCode)
    session.close()
    expect(await waiting).toBe('link-lost')
    await listener.close()
  } finally {
    await near.close()
    await far.close()
    rmSync(directory, { recursive: true })
  }
})
