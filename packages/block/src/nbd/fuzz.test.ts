// Random and mutated bytes against server and client: each connection ends in order or with a coded error; nothing
// hangs, nothing throws. A failing run prints its seed.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Io } from '../device.ts'
import { MemoryDevice } from '../memory-device.ts'
import { connectNbd, NbdError, NbdRefusal } from './client.ts'
import { encodeMetaRequest, encodeOption } from './options.ts'
import { serveNbd } from './server.ts'
import { encodeRequest, infoRequest } from './testing/raw-client.ts'
import { ManualTimers, type PairedStream, settle, streamPair } from './testing/stream-pair.ts'
import * as wire from './wire.ts'

const SIZE = 256 * 1024
const IO: Io = { origin: 'fuzz', deadlineAt: null }
/** A long run has more: STELLWERK_FUZZ=1000000. */
const RUNS = Math.max(400, Math.floor(Number(process.env['STELLWERK_FUZZ'] ?? 0) / 100))

const flags = Buffer.from([0, 0, 0, 3])
const none = new Uint8Array(0)

/** What a real client sends, as a start for mutations. */
const dialogue: readonly Buffer[] = [
  flags,
  Buffer.from(encodeOption(wire.OPT_STRUCTURED_REPLY, none)),
  Buffer.from(encodeOption(wire.OPT_LIST, none)),
  Buffer.from(encodeOption(wire.OPT_SET_META_CONTEXT, encodeMetaRequest({ name: 'd', queries: ['base:allocation'] }))),
  Buffer.from(encodeOption(wire.OPT_INFO, infoRequest('d', [3]))),
  Buffer.from(encodeOption(wire.OPT_GO, infoRequest('d', [3]))),
  ...[0, 1, 3, 4, 6, 7, 5].map(type =>
    encodeRequest({ type, ...(type === 1 ? { data: Buffer.alloc(64) } : { length: type === 3 ? 0 : 64 }) }),
  ),
  encodeRequest({ type: wire.CMD_DISC }),
]

type Mutation = { readonly at: number; readonly byte: number; readonly kind: 'set' | 'insert' | 'drop' }

const mutation = fc.record<Mutation>({
  at: fc.nat(600),
  byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
  kind: fc.constantFrom('set', 'insert', 'drop'),
})

function mutate(original: Buffer, mutations: readonly Mutation[]): Buffer {
  const bytes = [...original]
  for (const { at, byte, kind } of mutations) {
    const index = at % (bytes.length + 1)
    if (kind === 'set' && index < bytes.length) bytes[index] = byte
    else if (kind === 'insert') bytes.splice(index, 0, byte)
    else if (kind === 'drop') bytes.splice(index, 1)
  }
  return Buffer.from(bytes)
}

function exportsOf(device: MemoryDevice) {
  return {
    list: async () => [{ name: 'd' }],
    open: async () => ({ device, released: () => undefined }),
  }
}

/** Sends the bytes, then ends; the server must end too, by itself or by its timeout. */
async function attackServer(bytes: Uint8Array, cut: number): Promise<void> {
  const timers = new ManualTimers()
  const [near, far] = streamPair(undefined, () => cut)
  const connection = serveNbd(far, exportsOf(new MemoryDevice({ size: SIZE })), { timers })
  near.onData(() => undefined)
  near.write([bytes])
  near.end()
  for (let turns = 0; !far.destroyed && turns < 20; turns += 1) await settle()
  await timers.advance(60_000)
  await connection.closed
  expect(connection.error === null || connection.error instanceof NbdError).toBe(true)
  expect([connection.inFlight, far.destroyed, timers.count]).toEqual([0, true, 0])
}

/** A server whose bytes are mutated on the way to the client. */
async function attackClient(mutations: readonly Mutation[], skip: number, cut: number): Promise<void> {
  const timers = new ManualTimers()
  const [near, middleNear] = streamPair(() => cut)
  const [middleFar, far] = streamPair()
  serveNbd(far, exportsOf(new MemoryDevice({ size: SIZE })), { timers })
  relay(middleNear, middleFar, mutations, skip)
  const connecting = connectNbd(near, { exportName: 'd', timers, openTimeoutMs: 1000 })
  const done = use(connecting)
  for (let turns = 0; turns < 10; turns += 1) await settle()
  await timers.advance(60_000)
  // A server may leave a request unanswered for ever; what ends the wait is the path layer, here the reset.
  near.reset()
  await done
}

function relay(near: PairedStream, far: PairedStream, mutations: readonly Mutation[], skip: number): void {
  let passed = 0
  near.onData(chunk => far.write([chunk]))
  near.onEnd(() => far.end())
  near.onClose(() => far.destroy())
  far.onData(chunk => {
    const from = passed
    passed += chunk.length
    near.write([passed > skip ? mutate(Buffer.from(chunk), mutations.slice(from > skip ? 1 : 0)) : chunk])
  })
  far.onEnd(() => near.end())
  far.onClose(() => near.destroy())
}

async function use(connecting: ReturnType<typeof connectNbd>): Promise<void> {
  let client: Awaited<typeof connecting>
  try {
    client = await connecting
  } catch (error) {
    expect(error instanceof NbdError || error instanceof NbdRefusal).toBe(true)
    return
  }
  const results = await Promise.allSettled([
    client.write(0, [Buffer.alloc(64, 1)], { fua: true }, IO),
    client.read(0, 64, IO),
    client.flush(IO),
    client.blockStatus?.(0, 4096, IO),
    client.zero(0, 64, {}, IO),
  ])
  for (const result of results) if (result.status === 'rejected') expect(result.reason).toHaveProperty('errno')
  await client.close()
}

describe('NBD under fire', () => {
  it('survives random bytes in place of a client', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ maxLength: 300 }).map(tail => Buffer.concat([flags, tail])),
      fc.uint8Array({ maxLength: 300 }).map(tail => Buffer.concat([...dialogue.slice(0, 6), tail])),
    )
    await fc.assert(fc.asyncProperty(bytes, fc.integer({ min: 1, max: 50 }), attackServer), { numRuns: RUNS })
  })

  it('survives a mutated client', async () => {
    const whole = Buffer.concat(dialogue)
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { maxLength: 4 }), fc.integer({ min: 1, max: 200 }), (mutations, cut) =>
        attackServer(mutate(whole, mutations), cut),
      ),
      { numRuns: RUNS },
    )
  })

  it('survives a mutated server', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        fc.nat(500),
        fc.integer({ min: 1, max: 200 }),
        attackClient,
      ),
      { numRuns: RUNS },
    )
  })

  it('survives random bytes in place of a server', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, greeted) => {
        const timers = new ManualTimers()
        const [near, far] = streamPair()
        const done = use(connectNbd(near, { exportName: 'd', timers, openTimeoutMs: 1000 }))
        if (greeted) far.write([Buffer.from('NBDMAGICIHAVEOPT\0\x03')])
        far.write([bytes])
        far.onData(() => undefined)
        for (let turns = 0; turns < 5; turns += 1) await settle()
        await timers.advance(60_000)
        await done
        expect(near.destroyed).toBe(true)
      }),
      { numRuns: RUNS },
    )
  })
})
