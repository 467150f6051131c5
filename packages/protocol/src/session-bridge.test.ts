// Actors of two processes joined by a session: nothing an actor sees tells it where another lives.
import { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import { Dispatcher } from './dispatcher.ts'
import type { Identity, Session } from './session.ts'
import { bindSession } from './session-bridge.ts'
import { dialSession, listenSessions } from './session-handshake.ts'
import { echo, testRegistry } from './testing/echo-family.ts'
import { TestWorld } from './testing/test-environment.ts'

const ADDRESS = { network: 'cluster', host: 'coordinator', port: 7000 } as const
const identity = (node: string, role: Identity['role']): Identity => ({
  cluster: 'c',
  node,
  role,
  incarnation: 1,
  credential: 'token',
})

async function connect() {
  const world = new TestWorld()
  const agent = world.environment('host-a/agent')
  const coordinator = world.environment('coordinator')
  const far: Session[] = []
  const options = { registry: testRegistry }
  await listenSessions(
    coordinator.environment,
    ADDRESS,
    identity('coordinator', 'coordinator'),
    () => ({ ok: true }),
    s => far.push(s),
    options,
  )
  const near = await dialSession(agent.environment, ADDRESS, 'control', identity('host-a', 'agent'), options)
  await world.settle()
  return { world, near, far: far[0]!, agent, coordinator }
}

async function setUp() {
  const connection = await connect()
  const { near, far, agent, coordinator } = connection
  const here = new ActorSystem({ env: agent.environment, local: ['host-a'] })
  const there = new ActorSystem({ env: coordinator.environment, local: ['coordinator'] })
  bindSession(here, near, { remotePrefix: 'coordinator' })
  bindSession(there, far, { remotePrefix: 'host-a' })
  return { ...connection, here, there }
}

test('requests, replies, notices and failures pass between actors of two processes', async () => {
  const { world, here, there } = await setUp()
  const heard: unknown[] = []
  there.spawn('coordinator/echo', {
    receive: (message, context) => {
      if (message.kind === 'echo.note') heard.push([message.kind, message.from, message.body])
      else if (echo.body('echo.say', message).text === 'bad') context.fail(message, new StellwerkError('no', 'never'))
      else context.reply(message, { text: `${echo.body('echo.say', message).text}!` })
    },
  })
  const failures: unknown[] = []
  here.spawn('host-a/vm/web-1', {
    receive: (message: Message, context) => {
      if (message.re !== undefined) heard.push([message.kind, message.error?.code ?? message.body])
      else {
        context.request('coordinator/echo', 'echo.say', { text: 'hi' }, 1000)
        context.request('coordinator/echo', 'echo.say', { text: 'bad' }, 1000)
        context.request('coordinator/nobody', 'echo.say', { text: 'x' }, 1000)
        context.send('coordinator/echo', 'echo.note', { count: 1 })
        context.send('coordinator/nobody', 'echo.note', { count: 2 })
      }
    },
  })
  here.send('host-a/vm/web-1', 'go', null)
  const asked = here.ask('host-a/volume', 'coordinator/echo', 'echo.say', { text: 'async' }, 1000)
  await world.settle()
  expect(await asked).toEqual({ text: 'async!' })
  expect(heard).toContainEqual(['echo.note', 'host-a/vm/web-1', { count: 1 }])
  const answers = heard.filter(entry => (entry as unknown[]).length === 2)
  expect(answers).toHaveLength(4)
  expect(answers).toContainEqual(['echo.say', { text: 'hi!' }])
  expect(answers).toContainEqual(['echo.say', 'no'])
  expect(answers).toContainEqual(['echo.say', 'no-such-actor'])
  expect(answers).toContainEqual(['echo.note', 'no-such-actor'])
  expect(failures).toEqual([])
  expect([here.load, there.load]).toEqual([
    { queued: 0, pending: 0 },
    { queued: 0, pending: 0 },
  ])
  expect(world.timers).toBe(0)
})

test('a lost session fails the requests of actors with link-lost, and a late answer goes nowhere', async () => {
  const { world, here, there } = await setUp()
  let late: (() => void) | null = null
  there.spawn('coordinator/slow', {
    receive: (message, context) => {
      late = () => context.reply(message, { text: 'late' })
    },
  })
  const asked = here
    .ask('host-a/me', 'coordinator/slow', 'echo.say', { text: '' }, 60_000)
    .catch((error: unknown) => error)
  await world.settle()
  world.links[0]!.cut()
  await world.settle()
  expect(await asked).toMatchObject({ code: 'link-lost' })
  expect(late).not.toBeNull()
  late!()
  await world.settle()
  expect(there.counters.lateReplies).toBe(1)
  const next = here
    .ask('host-a/me', 'coordinator/slow', 'echo.say', { text: '' }, 1000)
    .catch((error: unknown) => error)
  expect(await next).toMatchObject({ code: 'no-such-actor' })
})

test('a message from an address that does not live behind the session is refused', async () => {
  const { world, near, there } = await setUp()
  const heard: unknown[] = []
  there.spawn('coordinator/echo', { receive: message => heard.push(message) })
  const asked = near.request('echo.say', { text: '' }, 1000, { from: 'host-ab/agent', to: 'coordinator/echo' })
  const outcome = asked.catch((error: unknown) => error)
  await world.settle()
  expect(await outcome).toMatchObject({ code: 'wrong-sender' })
  expect(heard).toEqual([])
})

test('an actor’s message that no frame can hold fails at its sender', async () => {
  const { world, here } = await setUp()
  const codes: unknown[] = []
  here.spawn('host-a/big', {
    receive: (message, context) => {
      if (message.re !== undefined) codes.push(message.error?.code)
      else context.request('coordinator/echo', 'echo.bytes', { data: new Uint8Array(1_500_000) }, 1000)
    },
  })
  here.send('host-a/big', 'go', null)
  await world.settle()
  expect(codes).toEqual(['frame-too-large'])
})

test('a dispatcher serves families: results are replies, errors are failures, sync or not', async () => {
  const { world, near, far } = await connect()
  const notes: unknown[] = []
  const dispatcher = new Dispatcher().add(echo, {
    'echo.say': ({ text }, { session }) => {
      if (text === 'throw') throw new StellwerkError('thrown', 'at once')
      return { text: `${text} ${session.peer.node}` }
    },
    'echo.bytes': async ({ data }) => {
      await Promise.resolve()
      if (data.byteLength === 0) throw new StellwerkError('rejected', 'later')
      return { sizes: [data.byteLength] }
    },
    'echo.note': ({ count }) => void notes.push(count),
  })
  far.onMessage(dispatcher.serve(far))
  const code = (error: unknown): unknown => (error as StellwerkError).code
  const answers = [
    echo.request(near, 'echo.say', { text: 'hi' }, 1000),
    echo.request(near, 'echo.say', { text: 'throw' }, 1000).catch(code),
    echo.request(near, 'echo.bytes', { data: new Uint8Array(7) }, 1000),
    echo.request(near, 'echo.bytes', { data: new Uint8Array(0) }, 1000).catch(code),
  ]
  echo.send(near, 'echo.note', { count: 5 })
  await world.settle()
  expect(await Promise.all(answers)).toEqual([{ text: 'hi host-a' }, 'thrown', { sizes: [7] }, 'rejected'])
  expect(notes).toEqual([5])
  near.onMessage(new Dispatcher().serve(near))
  const unserved = far.request('echo.say', { text: '' }, 1000).catch(code)
  await world.settle()
  expect(await unserved).toBe('not-served')
})
