// Actors of one system, and of two joined by a route: order, bounds, failures as messages, supervision.
import { expect, test } from 'vitest'
import { assert } from '../assert.ts'
import type { Environment } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { MAX_RESTARTS } from './actor-cell.ts'
import { ActorSystem, DISPATCH_BATCH } from './actor-system.ts'
import type { ActorContext, Behavior, Message } from './message.ts'

/** Just what the system uses of an environment: a clock that is moved by hand, timers on it, and a log that is kept. */
function testEnvironment() {
  const state = { now: 0, logs: [] as string[], timers: [] as { at: number; f: () => void }[] }
  const log = (_: object, message: string): void => void state.logs.push(message)
  const environment = {
    name: 'test',
    clock: { now: () => state.now, wall: () => state.now },
    timers: {
      after: (delayMs: number, f: () => void) => {
        const timer = { at: state.now + delayMs, f }
        state.timers.push(timer)
        const cancel = (): void => {
          state.timers = state.timers.filter(t => t !== timer)
        }
        return { cancel }
      },
    },
    log: { debug: log, info: log, warn: log, error: log },
    trace: { within: <T>(_: unknown, f: () => T): T => f() },
  } as unknown as Environment
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve()
  }
  const advance = async (ms: number): Promise<void> => {
    await settle()
    const end = state.now + ms
    while (true) {
      const next = state.timers.filter(t => t.at <= end).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      state.timers = state.timers.filter(t => t !== next)
      state.now = next.at
      next.f()
      await settle()
    }
    state.now = end
  }
  return { environment, state, settle, advance }
}

function setUp(local: readonly string[] = []) {
  const env = testEnvironment()
  const fatal: unknown[] = []
  const system = new ActorSystem({ env: env.environment, local, onFatal: error => fatal.push(error) })
  return { ...env, system, fatal }
}

const receiver = (receive: Behavior['receive']): Behavior => ({ receive })
const codeOf = (message: Message): string | undefined => message.error?.code

test('messages are handled one at a time, in the order they were sent, and never inside a send', async () => {
  const { system, settle } = setUp()
  const seen: string[] = []
  system.spawn(
    'a',
    receiver((message, context) => {
      seen.push(`a ${message.kind}`)
      if (message.kind === 'first') {
        context.send('b', 'one', null)
        context.send('a', 'third', null)
        seen.push('a sent')
      }
    }),
  )
  system.spawn(
    'b',
    receiver(message => seen.push(`b ${message.kind} from ${message.from}`)),
  )
  system.send('a', 'first', null)
  system.send('a', 'second', null)
  expect(seen).toEqual([])
  await settle()
  expect(seen).toEqual(['a first', 'a sent', 'a second', 'b one from a', 'a third'])
})

test('a full mailbox fails the message at its sender', async () => {
  const { system, settle } = setUp()
  const failures: (string | undefined)[] = []
  let handled = 0
  system.spawn(
    'slow',
    receiver(() => void handled++),
    { mailbox: 3 },
  )
  system.spawn(
    'loud',
    receiver((message, context) => {
      if (message.error !== undefined) failures.push(codeOf(message))
      else for (let i = 0; i < 5; i++) context.send('slow', 'work', i)
    }),
  )
  system.send('loud', 'go', null)
  await settle()
  expect(handled).toBe(3)
  expect(failures).toEqual(['mailbox-full', 'mailbox-full'])
  expect(system.counters.mailboxFull).toBe(2)
})

test('ask: the reply, the coded failure, the missing actor, the deadline', async () => {
  const { system, advance, state } = setUp()
  system.spawn(
    'oracle',
    receiver((message, context) => {
      if (message.kind === 'add') context.reply(message, (message.body as number) + 1)
      if (message.kind === 'fail')
        context.fail(message, new StellwerkError('no-luck', 'not today', { hint: 'tomorrow' }))
    }),
  )
  const outcome = (kind: string, to = 'oracle'): Promise<unknown> =>
    system.ask('me', to, kind, 1, 100).catch((error: unknown) => error)
  const all = Promise.all([outcome('add'), outcome('fail'), outcome('add', 'nobody'), outcome('silence')])
  await advance(100)
  const [added, failed, missing, late] = await all
  expect(added).toBe(2)
  expect(failed).toMatchObject({ code: 'no-luck', hint: 'tomorrow' })
  expect(missing).toMatchObject({ code: 'no-such-actor', where: 'nobody' })
  expect(late).toMatchObject({ code: 'deadline', retryable: true })
  expect(system.load).toEqual({ queued: 0, pending: 0 })
  expect(state.timers).toEqual([])
})

test('an actor’s request ends in exactly one message, also when the answer comes after the deadline', async () => {
  const { system, advance } = setUp()
  const seen: unknown[] = []
  let request: Message | null = null
  let requested = 0
  let answerer: ActorContext | null = null
  system.spawn(
    'late',
    receiver((message, context) => {
      request = message
      answerer = context
    }),
  )
  system.spawn(
    'asker',
    receiver((message, context) => {
      if (message.kind === 'go') requested = context.request('late', 'question', null, 50)
      else seen.push([message.re, codeOf(message)])
    }),
  )
  system.send('asker', 'go', null)
  await advance(60)
  answerer!.reply(request!, 'too late')
  await advance(10)
  expect(seen).toEqual([[requested, 'deadline']])
  expect(system.counters.lateReplies).toBe(1)
})

test('nobody but the one who was asked can answer', async () => {
  const { system, advance } = setUp()
  system.spawn(
    'asked',
    receiver((message, context) => context.send('forger', 'forward', message)),
  )
  system.spawn(
    'forger',
    receiver((message, context) => context.reply(message.body as Message, 'forged')),
  )
  const answer = system.ask('me', 'asked', 'question', null, 100).catch((error: unknown) => error)
  await advance(100)
  expect(await answer).toMatchObject({ code: 'deadline' })
})

test('a request whose deadline passed in the mailbox is not worked on', async () => {
  const { system, state, advance } = setUp()
  const worked: string[] = []
  system.spawn(
    'worker',
    receiver(message => {
      worked.push(message.kind)
      state.now += 60
    }),
  )
  const first = system.ask('me', 'worker', 'first', null, 50).catch((error: unknown) => error)
  const second = system.ask('me', 'worker', 'second', null, 50).catch((error: unknown) => error)
  await advance(1)
  expect(worked).toEqual(['first'])
  expect([await first, await second]).toMatchObject([{ code: 'deadline' }, { code: 'deadline' }])
})

test('a crash restarts the actor with a new behaviour, keeps its mailbox and fails the request that crashed it', async () => {
  const { system, advance, fatal } = setUp()
  const lives: number[] = []
  let born = 0
  const make = (): Behavior => {
    const life = ++born
    return {
      started: context => void context.after(10, `tick-${life}`, null),
      receive: message => {
        if (message.kind === 'crash') throw new Error('oops')
        lives.push(life)
      },
    }
  }
  system.spawn('phoenix', make, { supervision: 'restart' })
  system.send('phoenix', 'before', null)
  const crashed = system.ask('me', 'phoenix', 'crash', null, 100).catch((error: unknown) => error)
  system.send('phoenix', 'after', null)
  await advance(0)
  expect(await crashed).toMatchObject({ code: 'actor-crashed' })
  expect(lives).toEqual([1, 2])
  await advance(20)
  // The timer of the first life died with it.
  expect(lives).toEqual([1, 2, 2])
  expect(fatal).toEqual([])
})

test('an actor that crashes again and again is escalated instead of restarted for ever', async () => {
  const { system, settle, fatal } = setUp()
  const crash = (): Behavior =>
    receiver(() => {
      throw new Error('always')
    })
  system.spawn('hopeless', crash, { supervision: 'restart' })
  for (let i = 0; i <= MAX_RESTARTS; i++) system.send('hopeless', 'crash', i)
  await settle()
  expect(fatal).toHaveLength(1)
  expect(system.counters.crashes).toBe(MAX_RESTARTS + 1)
})

test('a crash escalates to the nearest ancestor, and from the top it is fatal', async () => {
  const { system, settle, fatal } = setUp()
  let starts = 0
  const parent = (): Behavior => ({
    started: context => {
      starts += 1
      if (!system.has('host/vm/web-1')) system.spawn('host/vm/web-1', child)
      expect(context.self).toBe('host')
    },
    receive: () => {
      throw new Error('the parent, too')
    },
  })
  const child: Behavior = receiver(() => {
    throw new Error('child')
  })
  system.spawn('host', parent, { supervision: 'restart' })
  system.send('host/vm/web-1', 'crash', null)
  await settle()
  expect(starts).toBe(2)
  expect(fatal).toEqual([])
  expect(system.has('host/vm/web-1')).toBe(true)
  system.spawn('lonely', child)
  system.send('lonely', 'crash', null)
  await settle()
  expect(fatal).toMatchObject([{ message: 'child' }])
})

test('supervision "stop": the actor is gone, and what waited for it fails', async () => {
  const { system, settle, fatal } = setUp()
  let stopped = 0
  system.spawn(
    'fragile',
    {
      receive: () => {
        throw new Error('once')
      },
      stopped: () => void stopped++,
    },
    { supervision: 'stop' },
  )
  system.send('fragile', 'crash', null)
  const waiting = system.ask('me', 'fragile', 'question', null, 100).catch((error: unknown) => error)
  await settle()
  expect(await waiting).toMatchObject({ code: 'no-such-actor' })
  expect([stopped, system.has('fragile'), fatal.length]).toEqual([1, false, 0])
})

test('a failed assertion is fatal whatever the supervision, and nothing runs after it', async () => {
  const { system, settle, fatal } = setUp()
  let handled = 0
  system.spawn(
    'sound',
    receiver(() => void handled++),
  )
  system.spawn('buggy', () => receiver(() => assert(false, 'cannot be')), { supervision: 'restart' })
  const waiting = system.ask('me', 'sound', 'never', null, 1000).catch((error: unknown) => error)
  system.send('buggy', 'go', null)
  system.send('sound', 'never', null)
  await settle()
  expect(handled).toBe(1)
  expect(fatal).toMatchObject([{ name: 'AssertionFailure', message: 'cannot be' }])
  expect(await waiting).toMatchObject({ code: 'stopped' })
})

test('actors that talk without end leave the event loop its turn', async () => {
  const { system, settle, state, advance } = setUp()
  let handled = 0
  system.spawn(
    'chatty',
    receiver((_, context) => {
      handled += 1
      context.send('chatty', 'more', null)
    }),
  )
  system.send('chatty', 'more', null)
  await settle()
  expect(handled).toBe(DISPATCH_BATCH)
  expect(state.timers).toHaveLength(1)
  system.stopActor('chatty')
  await advance(1)
  expect(system.load.queued).toBe(0)
})

test('across a route everything is as it is at home, and a lost route fails what waits', async () => {
  const here = setUp(['here'])
  const there = setUp(['there'])
  let up = true
  const join = (from: ActorSystem, to: ActorSystem, prefix: string) =>
    from.route(prefix, {
      send: message => {
        if (up) queueMicrotask(() => to.deliver({ ...message, seq: message.seq }))
        return up
      },
    })
  const route = join(here.system, there.system, 'there')
  join(there.system, here.system, 'here')
  there.system.spawn(
    'there/oracle',
    receiver((message, context) => message.kind === 'add' && context.reply(message, (message.body as number) + 1)),
  )
  const ask = (to: string, kind: string): Promise<unknown> =>
    here.system.ask('here/me', to, kind, 41, 100).catch((error: unknown) => error)
  const answers = Promise.all([
    ask('there/oracle', 'add'),
    ask('there/nobody', 'add'),
    ask('here/nobody', 'add'),
    ask('elsewhere', 'add'),
  ])
  await here.settle()
  expect(await answers).toMatchObject([
    42,
    { code: 'no-such-actor' },
    { code: 'no-such-actor' },
    { code: 'no-such-actor' },
  ])
  up = false
  expect(await ask('there/oracle', 'add')).toMatchObject({ code: 'link-busy' })
  up = true
  const waiting = ask('there/oracle', 'silence')
  await here.settle()
  route.remove()
  expect(await waiting).toMatchObject({ code: 'link-lost', retryable: true })
  expect(await ask('there/oracle', 'add')).toMatchObject({ code: 'no-such-actor' })
})

test('what an actor sends has the cause of what it handles', async () => {
  const { system, settle } = setUp()
  const causes: unknown[] = []
  system.spawn(
    'a',
    receiver((_, context) => void context.send('b', 'next', null)),
  )
  system.spawn(
    'b',
    receiver(message => causes.push(message.cause)),
  )
  system.send('a', 'first', null, { cause: { process: 'coordinator', seq: 7 } })
  await settle()
  expect(causes).toEqual([{ process: 'coordinator', seq: 7 }])
})
