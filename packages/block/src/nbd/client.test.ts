// The client against servers that misbehave, answer in unusual but allowed ways, refuse, or go away.

import { describe, expect, it } from 'vitest'
import { BlockError, type Io } from '../device.ts'
import { MemoryDevice } from '../memory-device.ts'
import { type ConnectNbdOptions, connectNbd, type NbdClient, NbdRefusal } from './client.ts'
import { CLIENT_HANDSHAKE_TIMEOUT_MS } from './client-handshake.ts'
import { encodeInfoBlockSize, encodeInfoExport, encodeOptionReply } from './options.ts'
import { serveNbd } from './server.ts'
import { ManualTimers, type PairedStream, settle, streamPair } from './testing/stream-pair.ts'
import * as wire from './wire.ts'

const IO: Io = { origin: 'test', deadlineAt: null }
const SIZE = 1024 * 1024
const FLAGS = 0x9ed

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, index) => {
    wire.writeU32(bytes, 4 * index, value)
  })
  return bytes
}

/** A server under the test's hand: reads what the client sends, writes what the test wants. */
class Script {
  readonly stream: PairedStream
  got = Buffer.alloc(0)

  constructor(stream: PairedStream) {
    this.stream = stream
    stream.onData(chunk => {
      this.got = Buffer.concat([this.got, chunk])
    })
  }

  async take(length: number): Promise<Buffer> {
    for (let turns = 0; this.got.length < length && turns < 100; turns += 1) await settle()
    if (this.got.length < length) throw new Error(`the client sent ${this.got.length} of ${length} bytes`)
    const taken = this.got.subarray(0, length)
    this.got = this.got.subarray(length)
    return taken
  }

  send(...parts: Uint8Array[]): void {
    this.stream.write(parts)
  }

  greet(flags = 3): void {
    this.send(Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, flags]))
  }

  async option(...replies: readonly (readonly [number, Uint8Array])[]): Promise<number> {
    const header = await this.take(16)
    await this.take(wire.readU32(header, 12))
    const option = wire.readU32(header, 8)
    for (const [type, data] of replies) this.send(encodeOptionReply(option, type, data))
    return option
  }

  /** Structured replies, the status context, GO. */
  async handshake(): Promise<void> {
    this.greet()
    await this.take(4)
    await this.option([wire.REP_ACK, NONE])
    const context = Buffer.concat([u32(7), Buffer.from('base:allocation')])
    await this.option([wire.REP_META_CONTEXT, context], [wire.REP_ACK, NONE])
    await this.option([wire.REP_INFO, encodeInfoExport(SIZE, FLAGS)], [wire.REP_ACK, NONE])
  }

  /** The cookie of the next request. */
  async request(payload = 0): Promise<Buffer> {
    const header = await this.take(28)
    await this.take(payload)
    return header.subarray(8, 16)
  }

  chunk(cookie: Uint8Array, type: number, done: boolean, payload: Uint8Array): void {
    const head = Buffer.alloc(8)
    wire.writeU32(head, 0, wire.MAGIC_STRUCTURED_REPLY)
    wire.writeU16(head, 4, done ? 1 : 0)
    wire.writeU16(head, 6, type)
    this.send(head, cookie, u32(payload.length), payload)
  }
}

const NONE = new Uint8Array(0)

function connect(options: Partial<ConnectNbdOptions> = {}) {
  const timers = new ManualTimers()
  const [near, far] = streamPair()
  const script = new Script(far)
  const connecting = connectNbd(near, { exportName: 'disk', timers, ...options })
  connecting.catch(() => undefined)
  return { connecting, script, timers, near }
}

async function connected(): Promise<{ client: NbdClient; script: Script; near: PairedStream }> {
  const { connecting, script, near } = connect()
  await script.handshake()
  return { client: await connecting, script, near }
}

async function failure(promise: Promise<unknown>): Promise<BlockError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(BlockError)
  return error as BlockError
}

describe('NBD client: handshake', () => {
  it('passes the refusal of the server on, with its text and type', async () => {
    const { connecting, script, near } = connect()
    script.greet()
    await script.take(4)
    await script.option([wire.REP_ACK, NONE])
    await script.option([wire.REP_ACK, NONE])
    await script.option([wire.REP_ERR_POLICY, Buffer.from('epoch-refused: 3 is not 4')])
    const error = await connecting.catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(NbdRefusal)
    expect(error).toMatchObject({ code: 'nbd-refused', reply: 'policy', message: 'epoch-refused: 3 is not 4' })
    expect(await script.option()).toBe(wire.OPT_ABORT)
    expect(near.destroyed).toBe(false)
  })

  it('does without structured replies and GO where the server has none', async () => {
    const { connecting, script } = connect()
    script.greet(1)
    await script.take(4)
    expect(await script.option([wire.REP_ERR_UNSUP, NONE])).toBe(wire.OPT_STRUCTURED_REPLY)
    expect(await script.option([wire.REP_ERR_UNSUP, NONE])).toBe(wire.OPT_GO)
    expect(await script.option()).toBe(wire.OPT_EXPORT_NAME)
    script.send(encodeInfoExport(SIZE, FLAGS).subarray(2), Buffer.alloc(124))
    const client = await connecting
    expect([client.size, client.structured, client.caps.blockStatus]).toEqual([SIZE, false, false])
    const read = client.read(0, 4, IO)
    const cookie = await script.request()
    script.send(u32(wire.MAGIC_SIMPLE_REPLY, 0), cookie, Buffer.from('data'))
    expect(Buffer.concat(await read).toString()).toBe('data')
  })

  it.each([
    ['no NBD server', Buffer.from('SSH-2.0-OpenSSH_9.6 hello there'), 'nbd-protocol-error'],
    ['an oldstyle server', Buffer.from('4e42444d4147494300004202818612530000', 'hex'), 'nbd-unsupported'],
    ['an unknown handshake', Buffer.from('NBDMAGICNOSUCHTHING'), 'nbd-protocol-error'],
  ])('rejects %s with a code', async (_title, greeting, code) => {
    const { connecting, script, near } = connect()
    script.send(greeting)
    await expect(connecting).rejects.toMatchObject({ code })
    expect(near.destroyed).toBe(true)
  })

  it.each([
    ['a reply to another option', () => encodeOptionReply(99, wire.REP_ACK, NONE)],
    ['a reply without magic', () => Buffer.alloc(20)],
    ['an acknowledgement with data', () => encodeOptionReply(8, wire.REP_ACK, Buffer.alloc(3))],
    ['an information it did not ask for', () => encodeOptionReply(8, wire.REP_INFO, Buffer.alloc(3))],
    [
      'a reply that is too long',
      () => {
        const reply = encodeOptionReply(8, wire.REP_ERR_UNSUP, NONE)
        wire.writeU32(reply, 16, 0x7fff_ffff)
        return reply
      },
    ],
  ])('rejects %s', async (_title, reply) => {
    const { connecting, script } = connect()
    script.greet()
    await script.take(4 + 16)
    script.send(reply())
    await expect(connecting).rejects.toMatchObject({ code: expect.stringMatching(/^nbd-(protocol-error|limit)$/) })
  })

  it.each([
    ['no size', []],
    ['a size beyond what numbers hold', [Buffer.from('0000ffffffffffffffff0001', 'hex')]],
    [
      'a minimum that is no power of two',
      [encodeInfoExport(SIZE, FLAGS), encodeInfoBlockSize({ minimum: 3, preferred: 4096, maximum: 9 })],
    ],
  ])('rejects an export with %s', async (_title, infos) => {
    const { connecting, script } = connect({ structured: false })
    script.greet()
    await script.take(4)
    await script.option(...infos.map(info => [wire.REP_INFO, info] as const), [wire.REP_ACK, NONE])
    await expect(connecting).rejects.toMatchObject({ code: 'nbd-protocol-error' })
  })

  it('times out a server that stalls, but gives it all the time to open the export', async () => {
    const stalled = connect()
    await stalled.timers.advance(CLIENT_HANDSHAKE_TIMEOUT_MS)
    await expect(stalled.connecting).rejects.toMatchObject({ code: 'nbd-timeout' })
    const draining = connect({ structured: false })
    draining.script.greet()
    await draining.script.take(4 + 16 + 12)
    await draining.timers.advance(100 * CLIENT_HANDSHAKE_TIMEOUT_MS)
    expect(draining.near.destroyed).toBe(false)
    const limited = connect({ structured: false, openTimeoutMs: 50 })
    limited.script.greet()
    await limited.script.take(4 + 16 + 12)
    await limited.timers.advance(50)
    await expect(limited.connecting).rejects.toMatchObject({ code: 'nbd-timeout' })
  })

  it('can be given up', async () => {
    const controller = new AbortController()
    const { connecting, near } = connect({ signal: controller.signal })
    controller.abort()
    await expect(connecting).rejects.toMatchObject({ code: 'nbd-cancelled' })
    expect(near.destroyed).toBe(true)
  })
})

describe('NBD client: replies', () => {
  it('puts chunks and holes in any order together', async () => {
    const { client, script } = await connected()
    const read = client.read(1000, 30, IO)
    const other = client.read(0, 1, IO)
    const cookie = await script.request()
    const second = await script.request()
    script.chunk(cookie, wire.REPLY_OFFSET_DATA, false, Buffer.concat([u32(0, 1020), Buffer.alloc(10, 'c')]))
    script.chunk(second, wire.REPLY_OFFSET_DATA, true, Buffer.concat([u32(0, 0), Buffer.from('x')]))
    script.chunk(cookie, wire.REPLY_OFFSET_HOLE, false, u32(0, 1005, 15))
    script.chunk(cookie, wire.REPLY_OFFSET_DATA, false, Buffer.concat([u32(0, 1000), Buffer.alloc(5, 'a')]))
    script.chunk(cookie, wire.REPLY_NONE, true, NONE)
    expect(Buffer.concat(await read).toString()).toBe(`aaaaa${'\0'.repeat(15)}cccccccccc`)
    expect(Buffer.concat(await other).toString()).toBe('x')
  })

  it('gives the error of a chunk, whatever came before', async () => {
    const { client, script } = await connected()
    const read = client.read(0, 8, IO)
    const cookie = await script.request()
    script.chunk(cookie, wire.REPLY_OFFSET_DATA, false, Buffer.concat([u32(0, 0), Buffer.alloc(8)]))
    const text = Buffer.from('bad sector')
    const message = Buffer.concat([u32(5), Buffer.from([0, text.length]), text, u32(0, 4)])
    script.chunk(cookie, wire.REPLY_ERROR_OFFSET, true, message)
    expect(await failure(read)).toMatchObject({ errno: 'EIO', outcome: 'none', message: 'bad sector' })
    const write = client.write(0, [Buffer.alloc(8)], {}, IO)
    script.chunk(await script.request(8), 0x8077, true, Buffer.concat([u32(12_345), Buffer.from([0, 0])]))
    expect(await failure(write)).toMatchObject({ errno: 'EINVAL', outcome: 'none' })
  })

  it('takes a write that was answered with an error for partly done, unless it was refused or the server goes down', async () => {
    const { client, script } = await connected()
    for (const [value, errno, outcome] of [
      [5, 'EIO', 'partial'],
      [28, 'ENOSPC', 'partial'],
      [108, 'ESHUTDOWN', 'unknown'],
      [1, 'EPERM', 'none'],
      [22, 'EINVAL', 'none'],
    ] as const) {
      const write = client.write(0, [Buffer.alloc(600)], {}, IO)
      const cookie = await script.request(600)
      script.send(u32(wire.MAGIC_SIMPLE_REPLY, value), cookie)
      expect(await failure(write)).toMatchObject({ errno, outcome })
    }
  })

  it('reads the status of its own context only', async () => {
    const { client, script } = await connected()
    const status = client.blockStatus!(0, 1000, IO)
    const cookie = await script.request()
    script.chunk(cookie, wire.REPLY_BLOCK_STATUS, true, u32(7, 400, 3, 9999, 0))
    expect(await status).toEqual([
      { length: 400, hole: true, zero: true },
      { length: 600, hole: false, zero: false },
    ])
    const wrong = client.blockStatus!(0, 1000, IO)
    script.chunk(await script.request(), wire.REPLY_BLOCK_STATUS, true, u32(8, 1000, 0))
    expect((await failure(wrong)).errno).toBe('ESHUTDOWN')
    expect(client.error?.code).toBe('nbd-protocol-error')
  })

  const data = (offset: number, length: number) => Buffer.concat([u32(0, offset), Buffer.alloc(length)])
  it.each<[string, (script: Script, cookie: Buffer) => void]>([
    ['bad magic', script => script.send(Buffer.alloc(16, 3))],
    ['a reply to no request', script => script.send(u32(wire.MAGIC_SIMPLE_REPLY, 0, 9, 9))],
    ['a simple reply to a read', (script, cookie) => script.send(u32(wire.MAGIC_SIMPLE_REPLY, 0), cookie)],
    ['data outside the request', (script, cookie) => script.chunk(cookie, 1, true, data(90, 20))],
    ['data before the request', (script, cookie) => script.chunk(cookie, 1, true, data(0, 20))],
    ['no data in a chunk', (script, cookie) => script.chunk(cookie, 1, true, u32(0, 10))],
    ['success with data missing', (script, cookie) => script.chunk(cookie, 1, true, data(10, 50))],
    ['success without any data', (script, cookie) => script.chunk(cookie, 0, true, NONE)],
    ['a closing chunk with data', (script, cookie) => script.chunk(cookie, 0, true, Buffer.alloc(2))],
    ['a closing chunk that does not close', (script, cookie) => script.chunk(cookie, 0, false, NONE)],
    [
      'the same data twice',
      (script, cookie) => {
        script.chunk(cookie, 1, false, data(10, 50))
        script.chunk(cookie, 1, true, data(10, 50))
      },
    ],
    [
      'more data than asked for',
      (script, cookie) => {
        script.chunk(cookie, 1, false, data(10, 90))
        script.chunk(cookie, 1, true, data(20, 20))
      },
    ],
    ['an empty hole', (script, cookie) => script.chunk(cookie, 2, true, u32(0, 10, 0))],
    ['a hole of the wrong form', (script, cookie) => script.chunk(cookie, 2, true, u32(0, 10))],
    ['an unknown chunk', (script, cookie) => script.chunk(cookie, 99, true, NONE)],
    ['a status nobody asked for', (script, cookie) => script.chunk(cookie, 5, true, u32(7, 1, 0))],
    ['an error chunk without an error', (script, cookie) => script.chunk(cookie, 0x8001, true, Buffer.alloc(6))],
    [
      'an error chunk with too long a text',
      (script, cookie) => {
        script.chunk(cookie, 0x8001, true, Buffer.concat([u32(5), Buffer.from([9, 0])]))
      },
    ],
  ])('ends the connection on %s, and with it what is in flight', async (_title, misbehave) => {
    const { client, script, near } = await connected()
    const states: string[] = []
    client.onState(state => states.push(state))
    const read = client.read(10, 100, IO)
    const write = client.write(0, [Buffer.alloc(4)], {}, IO)
    const cookie = await script.request()
    misbehave(script, cookie)
    expect(await failure(read)).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'none' })
    expect(await failure(write)).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'unknown' })
    expect([client.error?.code, near.destroyed, states]).toEqual(['nbd-protocol-error', true, ['closed']])
    expect(await failure(client.flush(IO))).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'none' })
  })
})

describe('NBD client: the connection', () => {
  it('sends the requests of one tick in one write', async () => {
    const { client, near } = await connected()
    const before = near.writes
    const requests = Array.from({ length: 100 }, (_, index) => client.write(index, [Buffer.alloc(1000)], {}, IO))
    await settle()
    expect(near.writes - before).toBe(1)
    near.reset()
    await Promise.allSettled(requests)
  })

  it.each([
    ['reset', (near: PairedStream, _far: PairedStream) => near.reset()],
    ['ended', (_near: PairedStream, far: PairedStream) => far.end()],
    ['aborted', (_near: PairedStream, _far: PairedStream, client: NbdClient) => client.abort('path failed')],
  ])('rejects what is in flight when it is %s: writes unknown, reads none', async (_title, end) => {
    const { client, near, script } = await connected()
    const requests = [
      client.write(0, [Buffer.alloc(8)], {}, IO),
      client.zero(0, 8, {}, IO),
      client.trim(0, 8, {}, IO),
      client.flush(IO),
      client.read(0, 8, IO),
    ]
    const outcomes = Promise.all(requests.map(async request => (await failure(request)).outcome))
    await settle()
    end(near, script.stream, client)
    expect(await outcomes).toEqual(['unknown', 'unknown', 'unknown', 'unknown', 'none'])
    expect(client.inFlight).toBe(0)
  })

  it('closes in order: waits for the requests in flight, says DISC, ends', async () => {
    const { client, script } = await connected()
    const write = client.write(0, [Buffer.alloc(8)], {}, IO)
    const cookie = await script.request(8)
    let closed = false
    const closing = client.close().then(() => {
      closed = true
    })
    await settle()
    expect([closed, script.got.length]).toEqual([false, 0])
    script.send(u32(wire.MAGIC_SIMPLE_REPLY, 0), cookie)
    await write
    await closing
    expect(wire.readU16(await script.take(28), 6)).toBe(wire.CMD_DISC)
  })

  it('splits what the wire cannot say in one length', async () => {
    const size = 3 * wire.MAX_RANGE_BYTES + 4096
    const device = new MemoryDevice({ size })
    const lengths: number[] = []
    device.zero = async (_offset, length) => {
      lengths.push(length)
    }
    const [near, far] = streamPair()
    const timers = new ManualTimers()
    serveNbd(far, { list: async () => [], open: async () => ({ device, released: () => undefined }) }, { timers })
    const client = await connectNbd(near, { exportName: 'disk', timers })
    await client.zero(0, size, {}, IO)
    expect(lengths).toEqual([wire.MAX_RANGE_BYTES, wire.MAX_RANGE_BYTES, wire.MAX_RANGE_BYTES, 4096])
    const [extent] = await client.blockStatus!(0, size, IO)
    expect(extent).toEqual({ length: wire.MAX_RANGE_BYTES, hole: true, zero: true })
  })
})
