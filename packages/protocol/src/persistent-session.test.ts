// A session that comes back: pauses that grow and are bounded, and no request that hangs over a loss.
import { expect, test } from 'vitest'
import { PersistentSession, type PersistentSessionOptions } from './persistent-session.ts'
import type { Identity, Session } from './session.ts'
import { listenSessions } from './session-handshake.ts'
import { testRegistry } from './testing/echo-family.ts'
import { TestWorld } from './testing/test-environment.ts'

const ADDRESS = { network: 'cluster', host: 'coordinator', port: 7000 } as const
const identity = (node: string, role: Identity['role']): Identity => ({
  cluster: 'c',
  node,
  role,
  incarnation: 1,
  credential: 'token',
})

function setUp(more: Partial<PersistentSessionOptions> = {}) {
  const world = new TestWorld()
  const agent = world.environment('host-a/agent')
  const coordinator = world.environment('coordinator')
  const events: string[] = []
  const pauses: number[] = []
  const far: Session[] = []
  const persistent = new PersistentSession({
    env: agent.environment,
    address: () => ADDRESS,
    class: 'control',
    identity: identity('host-a', 'agent'),
    backoff: { minMs: 100, maxMs: 1000 },
    handshake: { registry: testRegistry, handshakeMs: 500 },
    onUp: session => events.push(`up ${session.peer.node}`),
    onDown: error => events.push(`down ${error.code}`),
    onFailed: (error, retryMs) => {
      events.push(`failed ${error.code}`)
      pauses.push(retryMs)
    },
    ...more,
  })
  const listen = () => {
    const serve = (session: Session): void => {
      far.push(session)
      session.onMessage((_, reply) => reply.wanted && session.peer.node === 'host-a' && reply.ok({ text: 'pong' }))
    }
    return listenSessions(
      coordinator.environment,
      ADDRESS,
      identity('coordinator', 'coordinator'),
      () => ({ ok: true }),
      serve,
      { registry: testRegistry },
    )
  }
  return { world, persistent, events, pauses, far, listen }
}

test('it dials until somebody answers, with pauses that double up to the bound', async () => {
  const { world, persistent, events, pauses, listen } = setUp()
  persistent.start()
  await world.advance(10_000)
  expect(new Set(events)).toEqual(new Set(['failed refused']))
  expect(pauses.length).toBeGreaterThan(9)
  for (const [i, pause] of pauses.entries()) {
    const fullMs = Math.min(1000, 100 * 2 ** i)
    expect(pause).toBeGreaterThanOrEqual(fullMs / 2)
    expect(pause).toBeLessThanOrEqual(fullMs)
  }
  expect(new Set(pauses).size).toBe(pauses.length)
  expect(await persistent.request('echo.say', { text: '' }, 100).catch((error: unknown) => error)).toMatchObject({
    code: 'link-lost',
  })
  await listen()
  await world.advance(1000)
  expect(events.at(-1)).toBe('up coordinator')
  const answer = persistent.request('echo.say', { text: '' }, 100)
  await world.settle()
  expect(await answer).toEqual({ text: 'pong' })
})

test('after a loss it comes back, and what waited has failed', async () => {
  const { world, persistent, events, far, listen } = setUp()
  await listen()
  persistent.start()
  await world.advance(10)
  far[0]!.onMessage(() => undefined)
  const waiting = persistent.request('echo.say', { text: '' }, 60_000).catch((error: unknown) => error)
  await world.advance(5000)
  world.links[0]!.cut()
  await world.settle()
  expect(await waiting).toMatchObject({ code: 'link-lost' })
  expect(persistent.send('echo.note', { count: 1 })).toBe(false)
  await world.advance(100)
  expect(events).toEqual(['up coordinator', 'down link-lost', 'up coordinator'])
  expect(persistent.send('echo.note', { count: 1 })).toBe(true)
})

test('a session that falls as soon as it stands is not redialled at full speed', async () => {
  const { world, persistent, events } = setUp()
  persistent.start()
  const { environment } = world.environment('coordinator')
  const accept = (session: Session): void => session.close('closed', 'not today')
  await listenSessions(environment, ADDRESS, identity('coordinator', 'coordinator'), () => ({ ok: true }), accept, {
    registry: testRegistry,
  })
  await world.advance(10_000)
  expect(events.length).toBeGreaterThan(10)
  // Up and down for each attempt; without a growing pause there would be hundreds.
  expect(events.length).toBeLessThan(60)
})

test('a refusal is retried and shown', async () => {
  const { world, persistent, events, listen } = setUp({
    identity: { ...identity('host-a', 'agent'), credential: 'wrong' },
  })
  await listen()
  persistent.start()
  await world.advance(300)
  expect(events.length).toBeGreaterThan(1)
  expect(new Set(events)).toEqual(new Set(['failed bad-credential']))
  expect(persistent.lastError).toMatchObject({ code: 'bad-credential' })
})

test('stop is final, also in the middle of a handshake or a pause', async () => {
  for (const when of ['handshake', 'pause', 'up'] as const) {
    const { world, persistent, events, far, listen } = setUp()
    if (when === 'up') await listen()
    if (when === 'handshake') await world.environment('mute').environment.network.listen(ADDRESS, () => undefined)
    persistent.start()
    await world.advance(20)
    persistent.stop()
    const before = events.length
    await world.advance(5000)
    expect(events.slice(before)).toEqual([])
    expect([persistent.session, persistent.state]).toEqual([null, 'stopped'])
    expect(world.timers).toBe(0)
    if (when === 'up') expect(far[0]!.closed).toBe(true)
  }
})
