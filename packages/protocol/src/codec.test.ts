// Every message of every family survives the wire, and nothing that comes from it can do harm.

import { AssertionFailure } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import fc from 'fast-check'
import { pack } from 'msgpackr/pack'
import { expect, test } from 'vitest'
import { createCodec } from './codec.ts'
import type { Envelope } from './envelope.ts'
import type { TSchema } from './schema/typebox.js'
import './messages/all.ts'
import { registry } from './messages/family.ts'
import { echo, testRegistry } from './testing/echo-family.ts'
import { HostileFrames } from './testing/hostile-frames.ts'
import { arbitraryOf } from './testing/schema-arbitrary.ts'

const codec = createCodec()
const text = fc.string({ maxLength: 40, unit: 'binary' })
const count = fc.maxSafeNat()

const header = fc.record(
  {
    v: count,
    from: text,
    to: text,
    seq: count,
    cause: fc.record({ process: text, seq: count }),
    term: count,
    deadlineMs: fc.double({ min: 0, max: 86_400_000, noNaN: true }),
    hlc: fc.record({ wallMs: count, counter: count }),
  },
  { requiredKeys: ['v', 'from', 'to', 'seq', 'hlc'] },
)
const failure = fc.record(
  { code: text, message: text, retryable: fc.boolean(), where: text, hint: text },
  { requiredKeys: ['code', 'message', 'retryable'] },
)

function bodies(schema: TSchema): fc.Arbitrary<unknown> {
  return arbitraryOf(schema)
}

test.each(registry.all().map(message => [message.kind, message] as const))('%s survives the wire', (kind, message) => {
  const requests = fc
    .record({ header, body: bodies(message.request.schema) })
    .map(({ header: h, body }): Envelope => ({ ...h, kind, body }))
  const failures = fc
    .record({ header, re: count, error: failure })
    .map(({ header: h, re, error }): Envelope => ({ ...h, kind, re, error, body: null }))
  const shapes = [requests, failures]
  if (message.reply !== null) {
    shapes.push(
      fc
        .record({ header, re: count, body: bodies(message.reply.schema) })
        .map(({ header: h, re, body }): Envelope => ({ ...h, kind, re, body })),
    )
  }
  fc.assert(
    fc.property(fc.oneof(...shapes), envelope => {
      expect(plain(codec.decode(codec.encode(envelope)))).toEqual(plain(envelope))
    }),
    { numRuns: 60 },
  )
})

/** Byte arrays come back as buffers; -0 and 0 are one. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { bytes: [...value] }
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
  return value === 0 ? 0 : value
}

// --- hostile frames ----------------------------------------------------------------------------------------------------

const CODES = new Set(['undecodable', 'unknown-kind', 'misfit', 'frame-too-large'])
/** The long run: STELLWERK_FUZZ=1000000 */
const FUZZ_FRAMES = Number(process.env['STELLWERK_FUZZ'] ?? 100_000)
/** The long run has other frames each time. */
const FUZZ_SEED =
  process.env['STELLWERK_FUZZ_SEED'] ?? (FUZZ_FRAMES > 100_000 ? `hostile ${Date.now()}` : 'hostile frames')

/** True if the frame was refused with a code, false if it was understood; anything else fails the test. */
function refused(frame: Uint8Array, limit = codec): boolean {
  try {
    const { kind, from, to, seq } = limit.decode(frame)
    expect([typeof kind, typeof from, typeof to, typeof seq]).toEqual(['string', 'string', 'string', 'number'])
    return false
  } catch (error) {
    if (!(error instanceof StellwerkError) || !CODES.has(error.code)) {
      const head = Buffer.from(frame.subarray(0, 4096)).toString('hex')
      throw new Error(`a frame of ${frame.length} bytes, ${head} (STELLWERK_FUZZ_SEED="${FUZZ_SEED}")`, {
        cause: error,
      })
    }
    return true
  }
}

test(`${FUZZ_FRAMES} random and mutated frames each end in a coded error or an envelope (${FUZZ_SEED})`, {
  timeout: 60_000 + FUZZ_FRAMES,
}, () => {
  const frames = new HostileFrames(FUZZ_SEED)
  let understood = 0
  for (let i = 0; i < FUZZ_FRAMES; i++) if (!refused(frames.next())) understood += 1
  // Not vacuous: some mutations hit only a value, most hit the structure.
  expect(understood).toBeGreaterThan(FUZZ_FRAMES / 1000)
  expect(understood).toBeLessThan(FUZZ_FRAMES * 0.9)
})

test('large hostile frames: headers that promise what is not there, and nesting without end', () => {
  const size = 1_000_000
  const filled = (byte: number): Uint8Array => new Uint8Array(size).fill(byte)
  const before = process.memoryUsage().rss
  for (let byte = 0; byte < 256; byte++) expect(refused(filled(byte))).toBe(true)
  const promise = (head: readonly number[]): Uint8Array => {
    const frame = filled(head[0]!)
    for (let at = 0; at + head.length <= size; at += head.length) frame.set(head, at)
    return frame
  }
  for (const head of [
    [0xdd, 0, 0, 0xff, 0xff],
    [0xdd, 0xff, 0xff, 0xff, 0xff],
    [0xdf, 0, 0, 0x0f, 0xff],
    [0xdc, 0xff, 0xff],
    [0xc6, 0, 0, 0xff, 0xff],
    [0xd4, 0x72, 0x40],
  ]) {
    expect(refused(promise(head))).toBe(true)
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(600e6)
  expect(refused(new Uint8Array(5_000_000))).toBe(true)
})

test('what is not plain data (dates, sets, errors, patterns, references, …) is refused', () => {
  const lenient = createCodec({ registry: testRegistry })
  const [empty, ...rest] = [[0x80], [0xc7, 1, 0x73, 0x90], [0xd4, 0x73, 0x90]]
  const frame = (body: readonly number[]): Uint8Array => {
    const whole = pack([1, 'echo.nothing', 'a', 'b', 1, null, null, null, null, null, 1, 1, null, null])
    return Buffer.concat([whole.subarray(0, -1), Uint8Array.from(body)])
  }
  expect(lenient.decode(frame(empty!)).body).toEqual({})
  for (const body of rest) expect(() => lenient.decode(frame(body))).toThrow(/no msgpack/)
  for (let type = 0; type < 256; type++) {
    for (const payload of [[0x90], [0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1], [0x92, 0xa1, 0x78, 0xa1, 0x67]]) {
      expect(refused(frame([0xc7, payload.length, type, ...payload]), lenient)).toBe(true)
    }
  }
})

test('an error about a frame never quotes it: it may hold a credential', () => {
  const frame = Buffer.concat([pack({ credential: 'the-secret' }), Buffer.from([1])])
  expect.assertions(2)
  try {
    codec.decode(frame)
  } catch (error) {
    expect((error as StellwerkError).code).toBe('undecodable')
    expect(`${String(error)} ${JSON.stringify(error)} ${String((error as Error).cause)}`).not.toContain('the-secret')
  }
})

// --- our own mistakes ------------------------------------------------------------------------------------------------------

const own = createCodec({ registry: testRegistry, maxFrameBytes: 1000 })
const envelope = (kind: string, body: unknown, more: Partial<Envelope> = {}): Envelope => ({
  v: 1,
  kind,
  from: 'a',
  to: 'b',
  seq: 1,
  hlc: { wallMs: 1, counter: 0 },
  body,
  ...more,
})

test('sending what does not fit is a bug of the sender', () => {
  const bugs = [
    envelope('echo.unheard', {}),
    envelope('echo.note', { count: -1 }),
    envelope('echo.note', { count: 1, more: 1 }),
    envelope('echo.note', { count: 1 }, { re: 1 }),
    envelope('echo.say', null, { error: { code: 'x', message: 'x', retryable: false } }),
  ]
  for (const bug of bugs) expect(() => own.encode(bug)).toThrow(AssertionFailure)
})

test('what is too large for a frame is refused on either side', () => {
  const large = envelope('echo.say', { text: 'x'.repeat(1000) })
  expect(() => own.encode(large)).toThrow(expect.objectContaining({ code: 'frame-too-large' }))
  const frame = createCodec({ registry: testRegistry }).encode(large)
  expect(() => own.decode(frame)).toThrow(expect.objectContaining({ code: 'frame-too-large' }))
})

test('bytes and integers of every size survive', () => {
  const data = Uint8Array.from({ length: 300 }, (_, i) => i)
  const decoded = own.decode(own.encode(envelope('echo.bytes', { data })))
  expect([...echo.body('echo.bytes', decoded).data]).toEqual([...data])
  for (const value of [0, 127, 2 ** 31, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER]) {
    expect(own.decode(own.encode(envelope('echo.note', { count: value }))).body).toEqual({ count: value })
  }
})
