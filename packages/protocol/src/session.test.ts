// Sessions over links in memory: the handshake, requests and replies, and what ends a link.
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { expect, test } from 'vitest'
import { createCodec } from './codec.ts'
import { type Identity, MAX_PENDING, Session } from './session.ts'
import {
  type Admission,
  dialSession,
  type HandshakeOptions,
  type Introduction,
  listenSessions,
} from './session-handshake.ts'
import { TermGuard } from './term-guard.ts'
import { echo, testRegistry } from './testing/echo-family.ts'
import { TestWorld } from './testing/test-environment.ts'

const ADDRESS = { network: 'cluster', host: 'coordinator', port: 7000 } as const
const IDENTITY: Identity = { cluster: 'c1', node: 'host-a', role: 'agent', incarnation: 3, credential: 'let-me-in' }
const SERVER: Identity = {
  cluster: 'c1',
  node: 'coordinator',
  role: 'coordinator',
  incarnation: 9,
  credential: 'let-me-in',
}

interface Setup {
  readonly identity?: Partial<Identity>
  readonly admit?: (who: Introduction) => Admission
  readonly client?: HandshakeOptions
  readonly server?: HandshakeOptions
}

async function setUp({ identity, admit, client: clientOptions, server: serverOptions }: Setup = {}) {
  const world = new TestWorld()
  const client = world.environment('host-a/agent')
  const server = world.environment('coordinator')
  const sessions: Session[] = []
  const accept = admit ?? (() => ({ ok: true }) as const)
  const options = { registry: testRegistry, ...serverOptions }
  await listenSessions(server.environment, ADDRESS, SERVER, accept, session => sessions.push(session), options)
  const dialling = dialSession(
    client.environment,
    ADDRESS,
    'control',
    { ...IDENTITY, ...identity },
    { registry: testRegistry, ...clientOptions },
  )
  const outcome = await Promise.race([
    dialling.catch((error: unknown) => error),
    world.settle().then(() => dialling.catch((error: unknown) => error)),
  ])
  return { world, client, server, sessions, outcome }
}

async function connected(setup: Setup = {}) {
  const all = await setUp(setup)
  const { outcome, sessions } = all
  expect(outcome).toBeInstanceOf(Session)
  expect(sessions).toHaveLength(1)
  return { ...all, near: outcome as Session, far: sessions[0]! }
}

test('after the handshake each side knows the other', async () => {
  const { near, far } = await connected()
  expect(near.peer).toMatchObject({ node: 'coordinator', role: 'coordinator', incarnation: 9 })
  expect(far.peer).toMatchObject({ node: 'host-a', role: 'agent', incarnation: 3 })
  expect([near.version, far.version]).toEqual([1, 1])
})

test.each([
  ['bad-credential', { identity: { credential: 'let-me-out' } }],
  ['wrong-cluster', { identity: { cluster: 'c2' } }],
  ['version-mismatch', { client: { versions: { current: 9, minimum: 7 } } }],
  ['quarantined', { admit: () => ({ ok: false, code: 'quarantined', message: 'failed too often' }) as const }],
] as const)('who may not join is refused with why: %s', async (code, setup) => {
  const { outcome, sessions, server } = await setUp(setup)
  expect(outcome).toMatchObject({ code })
  expect(outcome).toBeInstanceOf(StellwerkError)
  expect(sessions).toEqual([])
  expect(server.logs.map(line => (line.fields as { code?: string }).code)).toEqual([code])
})

test('the credential is asked for before anybody is asked to admit, and appears in no log and no trace', async () => {
  const asked: Introduction[] = []
  const admit = (who: Introduction): Admission => {
    asked.push(who)
    return { ok: true }
  }
  const bad = await setUp({ admit, identity: { credential: 'wrong-secret' } })
  expect(asked).toEqual([])
  const good = await connected({ admit })
  expect(asked).toHaveLength(1)
  const seen = JSON.stringify(
    [asked, bad.client, bad.server, good.client, good.server].map(all =>
      'logs' in all ? [all.logs, all.records] : all,
    ),
  )
  expect(seen).not.toMatch(/let-me-in|wrong-secret/)
})

test('a dialled side that says nothing ends the handshake at its deadline', async () => {
  const world = new TestWorld()
  const { environment } = world.environment('host-a/agent')
  await environment.network.listen(ADDRESS, () => undefined)
  let outcome: unknown = null
  dialSession(environment, ADDRESS, 'control', IDENTITY, { handshakeMs: 800 }).catch(
    (error: unknown) => (outcome = error),
  )
  await world.advance(799)
  expect(outcome).toBeNull()
  await world.advance(2)
  expect(outcome).toMatchObject({ code: 'handshake-timeout', retryable: true })
  expect(world.timers).toBe(0)
})

test('a request gets its reply, a failing one the other side’s coded error', async () => {
  const { world, near, far } = await connected()
  far.onMessage((envelope, reply) => {
    const { text } = echo.body('echo.say', envelope)
    if (text === 'fail')
      reply.fail(new StellwerkError('too-loud', 'it hurts', { hint: 'whisper', retryable: true, where: 'ear' }))
    else reply.ok({ text: text.toUpperCase() })
  })
  const good = echo.request(near, 'echo.say', { text: 'hello' }, 1000)
  const bad = echo.request(near, 'echo.say', { text: 'fail' }, 1000).catch((error: unknown) => error)
  await world.settle()
  expect(await good).toEqual({ text: 'HELLO' })
  expect(await bad).toMatchObject({
    code: 'too-loud',
    message: 'it hurts',
    hint: 'whisper',
    retryable: true,
    where: 'ear',
  })
  expect(world.timers).toBe(0)
})

test('messages keep their order, whether they are notices or replies', async () => {
  const { world, near, far } = await connected()
  const seen: unknown[] = []
  far.onMessage((_, reply) => {
    far.send('echo.note', { count: 1 })
    reply.ok({ text: 'reply' })
    far.send('echo.note', { count: 2 })
  })
  near.onMessage(envelope => seen.push(envelope.body))
  near.requestWith('echo.say', { text: '' }, 1000, {}, (_, body) => seen.push(body))
  await world.settle()
  expect(seen).toEqual([{ count: 1 }, { text: 'reply' }, { count: 2 }])
})

test('a request without an answer fails at its deadline, and the late answer is counted', async () => {
  const { world, near, far } = await connected()
  let late: (() => void) | null = null
  far.onMessage((_, reply) => {
    late = () => reply.ok({ text: 'late' })
  })
  let error: unknown = null
  near.request('echo.say', { text: 'x' }, 300).catch((e: unknown) => (error = e))
  await world.advance(299)
  expect(error).toBeNull()
  await world.advance(1)
  expect(error).toMatchObject({ code: 'deadline', retryable: true, where: 'coordinator' })
  late!()
  await world.settle()
  expect(near.counters.lateReplies).toBe(1)
  expect(near.closed).toBe(false)
})

test('when the link is lost, requests fail with link-lost and both sides hear of it once', async () => {
  const { world, near, far } = await connected()
  const heard: string[] = []
  near.onClose(code => heard.push(`near ${code}`))
  far.onClose(code => heard.push(`far ${code}`))
  const waiting = near.request('echo.say', { text: 'x' }, 60_000).catch((error: unknown) => error)
  await world.settle()
  world.links[0]!.cut()
  await world.settle()
  expect(await waiting).toMatchObject({ code: 'link-lost', retryable: true })
  expect(heard.sort()).toEqual(['far lost', 'near lost'])
  expect(near.send('echo.note', { count: 1 })).toBe(false)
  expect(await near.request('echo.say', { text: 'x' }, 10).catch((error: unknown) => error)).toMatchObject({
    code: 'link-lost',
  })
  expect(world.timers).toBe(0)
})

test('messages that come before anybody listens are held and delivered in order', async () => {
  const { world, near, far } = await connected()
  for (let count = 0; count < 5; count++) near.send('echo.note', { count })
  await world.settle()
  const counts: number[] = []
  far.onMessage(envelope => counts.push(echo.body('echo.note', envelope).count))
  expect(counts).toEqual([0, 1, 2, 3, 4])
})

test('pending requests are bounded', async () => {
  const { world, near } = await connected()
  const outcomes: unknown[] = []
  for (let i = 0; i <= MAX_PENDING; i++)
    near.requestWith('echo.say', { text: '' }, 1000, {}, error => outcomes.push(error?.code))
  expect(outcomes).toEqual(['too-many-requests'])
  await world.advance(1000)
  expect(outcomes).toHaveLength(MAX_PENDING + 1)
})

test('what the link’s credit holds back waits in a bounded queue and goes out in order when credit comes', async () => {
  const { world, near, far } = await connected()
  const data = new Uint8Array(900_000)
  const sizes: number[] = []
  far.onMessage((envelope, reply) => {
    sizes.push(echo.body('echo.bytes', envelope).data.byteLength)
    reply.ok({ sizes: [] })
  })
  world.links[0]!.hold()
  const codes: (string | undefined)[] = []
  for (let i = 0; i < 30; i++)
    near.requestWith('echo.bytes', { data: data.subarray(i) }, 1000, {}, error => codes.push(error?.code))
  expect(near.queuedBytes).toBeGreaterThan(8_000_000)
  expect(near.queuedBytes).toBeLessThan(10_000_000)
  expect(near.send('echo.note', { count: 1 })).toBe(false)
  const refused = codes.length
  expect(refused).toBeGreaterThan(10)
  expect(new Set(codes)).toEqual(new Set(['link-busy']))
  world.links[0]!.release()
  await world.settle()
  expect(sizes).toEqual(Array.from({ length: 30 - refused }, (_, i) => 900_000 - i))
  expect(codes.filter(code => code === undefined)).toHaveLength(30 - refused)
  expect(near.queuedBytes).toBe(0)
})

test('a body too large for the link’s frames fails, and the session lives on', async () => {
  const { world, near, far } = await connected()
  far.onMessage((envelope, reply) => reply.ok({ text: echo.body('echo.say', envelope).text }))
  const data = new Uint8Array(1_200_000)
  expect(await near.request('echo.bytes', { data }, 1000).catch((error: unknown) => error)).toMatchObject({
    code: 'frame-too-large',
  })
  const next = near.request('echo.say', { text: 'still here' }, 1000)
  await world.settle()
  expect(await next).toEqual({ text: 'still here' })
})

test.each([
  ['undecodable', () => new Uint8Array([0x93, 1])],
  ['misfit', () => new Uint8Array([0x93, 1, 2, 3])],
  ['frame-too-large', () => new Uint8Array(1_048_577)],
  ['protocol-error', () => note(1, 7)],
  ['protocol-error', () => note(2, 2)],
] as const)('a frame that is nonsense closes the link with a code: %s', async (code, frame) => {
  const { world, near, far, server } = await connected()
  const heard: string[] = []
  far.onClose(why => heard.push(`far ${why}`))
  near.onClose(why => heard.push(`near ${why}`))
  world.links[0]!.inject(frame())
  await world.settle()
  expect(heard).toEqual([`far ${code}`, `near ${code}`])
  if (code !== 'frame-too-large') expect(server.logs.map(line => line.level)).toEqual(['warn'])
})

function note(v: number, seq: number): Uint8Array {
  const hlc = { wallMs: 1, counter: 0 }
  return createCodec({ registry: testRegistry }).encode({
    v,
    kind: 'echo.note',
    from: 'host-a',
    to: 'coordinator',
    seq,
    hlc,
    body: { count: 1 },
  })
}

test('a message of an older term than seen is refused and not delivered', async () => {
  const raised: number[] = []
  const terms = new TermGuard(4, term => raised.push(term))
  const { world, near, far } = await connected({ server: { terms } })
  const seen: (number | undefined)[] = []
  far.onMessage((envelope, reply) => {
    seen.push(envelope.term)
    if (reply.wanted) reply.ok({ text: '' })
  })
  const failed: unknown[] = []
  near.onFailure(envelope => failed.push([envelope.kind, envelope.error?.code]))
  const stale = near.request('echo.say', { text: '' }, 1000, { term: 3 }).catch((error: unknown) => error)
  near.send('echo.note', { count: 1 }, { term: 3 })
  const current = near.request('echo.say', { text: '' }, 1000, { term: 5 })
  near.send('echo.note', { count: 2 }, { term: 4 })
  await world.settle()
  expect(await stale).toMatchObject({ code: 'stale-term' })
  await current
  expect(seen).toEqual([5])
  expect(raised).toEqual([5])
  expect(failed).toEqual([
    ['echo.note', 'stale-term'],
    ['echo.note', 'stale-term'],
  ])
})

test('each message is traced where it is sent and received, and the records form a graph', async () => {
  const { world, near, far, client, server } = await connected()
  far.onMessage((_, reply) => reply.wanted && reply.ok({ text: '' }))
  const decision = client.environment.trace.emit({ level: 'decision', kind: 'vm.wanted', vm: 'web-1' })
  near.send('echo.note', { count: 1, vm: 'web-1' }, { cause: decision })
  near.requestWith('echo.say', { text: '' }, 1000, {}, () => undefined)
  await world.settle()
  const sent = client.records.filter(record => record.kind === 'message.sent')
  const received = server.records.filter(record => record.kind === 'message.received')
  expect(sent[0]).toMatchObject({
    cause: decision,
    vm: 'web-1',
    level: 'message',
    body: { kind: 'echo.note', to: 'coordinator' },
  })
  expect(received[0]).toMatchObject({ cause: { process: 'host-a/agent', seq: sent[0]!.seq }, vm: 'web-1' })
  expect((received[0]!.body as { bytes: number }).bytes).toBeGreaterThan(20)
  const answer = server.records.find(record => record.kind === 'message.sent')
  expect(answer).toMatchObject({ cause: { process: 'coordinator', seq: received[1]!.seq }, body: { kind: 'echo.say' } })
  const stamps = [sent[1]!, received[1]!, answer!].map(record => record.hlc.wallMs * 1e6 + record.hlc.counter)
  expect([...stamps].sort((a, b) => a - b)).toEqual(stamps)
})

test('a handler that throws fails its request', async () => {
  const { world, near, far } = await connected()
  far.onMessage(() => {
    throw new StellwerkError('no-space', 'the volume is full')
  })
  const failed = near.request('echo.say', { text: '' }, 1000).catch((error: unknown) => error)
  await world.settle()
  expect(await failed).toMatchObject({ code: 'no-space' })
})

test('an answer is given once', async () => {
  const { world, near, far } = await connected()
  const thrown: unknown[] = []
  far.onMessage((_, reply) => {
    reply.ok({ text: '' })
    try {
      reply.ok({ text: '' })
    } catch (error) {
      thrown.push(error)
    }
  })
  near.requestWith('echo.say', { text: '' }, 1000, {}, () => undefined)
  await world.settle()
  expect(String(thrown[0])).toContain('answered twice')
})

test('hostile frames end a session with a code and never more than the session', async () => {
  const codec = createCodec({ registry: testRegistry })
  const random = new SimRandom('hostile sessions')
  const codes = new Map<string, number>()
  for (let round = 0; round < 300; round++) {
    const { world, far } = await connected()
    far.onMessage((_, reply) => reply.wanted && reply.ok({ text: '' }))
    far.onClose(code => codes.set(code, (codes.get(code) ?? 0) + 1))
    const body = random.int(2) === 0 ? { text: 'x'.repeat(random.int(50)) } : { count: 1 }
    const hlc = { wallMs: 1, counter: 0 }
    const kind = 'text' in body ? 'echo.say' : 'echo.note'
    const frame = new Uint8Array(codec.encode({ v: 1, kind, from: 'a', to: 'b', seq: 2, hlc, body }))
    for (let n = random.int(4); n >= 0; n--) frame[random.int(frame.byteLength)] = random.int(256)
    world.links[0]!.inject(frame)
    await world.settle()
  }
  expect([...codes.keys()].sort()).toEqual(['misfit', 'protocol-error', 'undecodable', 'unknown-kind'])
  expect([...codes.values()].reduce((sum, n) => sum + n)).toBeGreaterThan(150)
})
