// The server's requests against the protocol document, byte by byte: what it refuses, what it bounds, how it ends.

import { describe, expect, it } from 'vitest'
import { BlockError } from '../device.ts'
import { encodeMetaRequest, encodeOption } from './options.ts'
import { MAX_IN_FLIGHT_REQUESTS } from './server.ts'
import { encodeRequest, infoRequest } from './testing/raw-client.ts'
import { gated, memory, SIZE, setUp } from './testing/server-setup.ts'
import { settle } from './testing/stream-pair.ts'
import * as wire from './wire.ts'

const EPERM = 1
const EIO = 5
const EINVAL = 22
const ENOSPC = 28

describe('NBD server: requests', () => {
  const big = 2n ** 63n
  it.each([
    ['a read past the end', { type: 0, offset: BigInt(SIZE - 512), length: 1024 }, EINVAL],
    ['a read that wraps around', { type: 0, offset: 2n ** 64n - 512n, length: 1024 }, EINVAL],
    ['a read far beyond', { type: 0, offset: big, length: 512 }, EINVAL],
    ['a write past the end', { type: 1, offset: BigInt(SIZE - 1), data: Buffer.alloc(2) }, ENOSPC],
    ['a write that wraps around', { type: 1, offset: 2n ** 64n - 1n, data: Buffer.alloc(2) }, ENOSPC],
    ['zeroing past the end', { type: 6, offset: BigInt(SIZE), length: 1 }, ENOSPC],
    ['trimming past the end', { type: 4, offset: BigInt(SIZE), length: 1 }, EINVAL],
    ['an unknown command', { type: 77, length: 10 }, EINVAL],
    ['CACHE, which is not offered', { type: 5, length: 512 }, EINVAL],
    ['an unknown flag', { type: 0, flags: 1 << 9, length: 512 }, EINVAL],
    ['NO_HOLE on a write', { type: 1, flags: 2, data: Buffer.alloc(512) }, EINVAL],
    ['DF without structured replies', { type: 0, flags: 4, length: 512 }, EINVAL],
    ['FAST_ZERO on a trim', { type: 4, flags: 16, length: 512 }, EINVAL],
    ['a status without its context', { type: 7, length: 512 }, EINVAL],
    ['a flush of a range', { type: 3, offset: 0n, length: 512 }, EINVAL],
    ['a read longer than the maximum', { type: 0, length: 0x8000_0000 }, EINVAL],
  ])('refuses %s, and goes on', async (_title, request, errno) => {
    const { client, connection } = setUp()
    await client.go('disk', false)
    expect((await client.request({ cookie: 0xfeed_0000_beef_1234n, ...request })).error).toBe(errno)
    const next = await client.request({ type: wire.CMD_READ, cookie: 2n, length: 16 }, 16)
    expect([next.error, next.cookie, next.payload.length]).toEqual([0, 2n, 16])
    expect(connection.requestsServed).toBe(2)
  })

  it('tells errors in structured replies with a text', async () => {
    const { client } = setUp()
    await client.go('disk', true)
    const reply = await client.request({ type: wire.CMD_READ, offset: BigInt(SIZE), length: 1 })
    expect([reply.type, reply.flags, reply.error]).toEqual([wire.REPLY_ERROR, wire.REPLY_FLAG_DONE, EINVAL])
    expect(reply.message).toContain('past the end')
  })

  it('refuses changes of a read-only export with EPERM, and skips their data', async () => {
    const { client } = setUp({ device: memory({}, { readOnly: true }) })
    await client.go('disk', false)
    expect((await client.request({ type: wire.CMD_WRITE, data: Buffer.alloc(70_000) })).error).toBe(EPERM)
    expect((await client.request({ type: wire.CMD_TRIM, length: 512 })).error).toBe(EPERM)
    expect((await client.request({ type: wire.CMD_WRITE_ZEROES, length: 512 })).error).toBe(EPERM)
    expect((await client.request({ type: wire.CMD_READ, length: 512 }, 512)).error).toBe(0)
  })

  it('refuses unaligned requests and those above the advertised maximum', async () => {
    const { client } = setUp({ device: memory({ minimum: 512, maximum: 4096 }) })
    await client.go('disk', false)
    expect((await client.request({ type: wire.CMD_READ, offset: 1n, length: 512 })).error).toBe(EINVAL)
    expect((await client.request({ type: wire.CMD_WRITE, data: Buffer.alloc(511) })).error).toBe(EINVAL)
    expect((await client.request({ type: wire.CMD_WRITE, data: Buffer.alloc(8192) })).error).toBe(EINVAL)
    expect((await client.request({ type: wire.CMD_WRITE_ZEROES, length: 8192 })).error).toBe(0)
  })

  it('lets a request of no length do nothing, in either kind of reply', async () => {
    for (const structured of [false, true]) {
      const { client } = setUp()
      await client.go('disk', structured)
      for (const type of [wire.CMD_READ, wire.CMD_WRITE, wire.CMD_TRIM, wire.CMD_WRITE_ZEROES]) {
        const reply = await client.request({ type, offset: 512n })
        expect([reply.error, reply.type]).toEqual([0, structured && type === wire.CMD_READ ? wire.REPLY_NONE : -1])
      }
    }
  })

  it('answers a read with one chunk, also under DF, and reads back what was written with FUA', async () => {
    const { client } = setUp()
    await client.go('disk', true)
    const data = Buffer.from('signal box '.repeat(1000))
    const written = await client.request({ type: wire.CMD_WRITE, flags: wire.CMD_FLAG_FUA, offset: 4096n, data })
    expect(written.error).toBe(0)
    const read = { type: wire.CMD_READ, flags: wire.CMD_FLAG_DF, offset: 4096n, length: data.length }
    const reply = await client.request(read)
    expect([reply.type, reply.flags, reply.payload.readBigUInt64BE(0)]).toEqual([1, 1, 4096n])
    expect(reply.payload.subarray(8).equals(data)).toBe(true)
  })

  it('accepts FUA on every command', async () => {
    const { client } = setUp()
    await client.go('disk', true)
    for (const type of [0, 1, 3, 4, 6]) {
      const reply = await client.request({
        type,
        flags: wire.CMD_FLAG_FUA,
        ...(type === 1 ? { data: Buffer.alloc(8) } : {}),
      })
      expect(reply.error).toBe(0)
    }
  })

  it('tells the status, one extent on REQ_ONE, and refuses the status of nothing', async () => {
    const { client, device } = setUp()
    await device.write(65536, [Buffer.alloc(65536, 1)], {}, { origin: 'test', deadlineAt: null })
    await client.go('disk', true, encodeMetaRequest({ name: 'disk', queries: ['base:allocation'] }))
    const words = (payload: Buffer): number[] =>
      Array.from({ length: payload.length / 4 }, (_, index) => payload.readUInt32BE(index * 4))
    const whole = await client.request({ type: wire.CMD_BLOCK_STATUS, length: 4 * 65536 })
    expect([whole.type, whole.flags]).toEqual([wire.REPLY_BLOCK_STATUS, wire.REPLY_FLAG_DONE])
    expect(words(whole.payload)).toEqual([1, 65536, 3, 65536, 0, 2 * 65536, 3])
    const one = await client.request({
      type: wire.CMD_BLOCK_STATUS,
      flags: wire.CMD_FLAG_REQ_ONE,
      offset: 512n,
      length: 1e6,
    })
    expect(words(one.payload)).toEqual([1, 65536 - 512, 3])
    expect((await client.request({ type: wire.CMD_BLOCK_STATUS, length: 0 })).error).toBe(EINVAL)
    expect((await client.request({ type: wire.CMD_BLOCK_STATUS, offset: BigInt(SIZE), length: 1 })).error).toBe(EINVAL)
  })

  it('has no status for a client that selected it for another export', async () => {
    const { client } = setUp({
      exports: { open: async () => ({ device: memory({}), released: () => undefined }) },
    })
    await client.go('disk', true, encodeMetaRequest({ name: 'other', queries: ['base:allocation'] }))
    expect((await client.request({ type: wire.CMD_BLOCK_STATUS, length: 512 })).error).toBe(EINVAL)
  })

  it('passes the errno of the device on', async () => {
    const { device, waiting } = gated()
    const { client } = setUp({ device })
    await client.go('disk', true)
    client.send(encodeRequest({ type: wire.CMD_WRITE, data: Buffer.alloc(512) }), encodeRequest({ type: 0, length: 1 }))
    await settle()
    waiting[0]!.fail(new BlockError('ENOSPC', 'none', 'volume full'))
    waiting[1]!.fail(new Error('broken'))
    const [first, second] = [await client.reply(), await client.reply()]
    expect([first.error, first.message, second.error, second.message]).toEqual([ENOSPC, 'volume full', EIO, 'broken'])
  })

  it('ends a connection on a request without its magic, or a write too long to skip', async () => {
    for (const request of [
      { type: 0, magic: 0x12345678, length: 1 },
      { type: 1, length: 0xf000_0000 },
    ]) {
      const { client, connection, log } = setUp()
      await client.go('disk', true)
      client.send(encodeRequest(request))
      await connection.closed
      expect(['nbd-protocol-error', 'nbd-limit']).toContain(connection.error?.code)
      expect(log.at(-1)).toBe('released')
    }
  })
})

describe('NBD server: many requests and the end', () => {
  it('answers the requests of one tick in one write', async () => {
    const { client, far } = setUp()
    await client.go('disk', true)
    const before = far.writes
    client.send(
      ...Array.from({ length: 50 }, (_, index) => encodeRequest({ type: 0, cookie: BigInt(index), length: 4096 })),
    )
    for (let count = 0; count < 50; count += 1) expect((await client.reply()).payload.length).toBe(4104)
    // The test's stream delivers each part in its own turn: far fewer writes than requests is what must hold.
    expect(far.writes - before).toBeLessThanOrEqual(50)
  })

  it('stops reading at its bound of requests in flight, and goes on when they finish', async () => {
    const { device, waiting } = gated()
    const { client, connection, far } = setUp({ device })
    await client.go('disk', true)
    const count = MAX_IN_FLIGHT_REQUESTS + 50
    client.send(
      Buffer.concat(
        Array.from({ length: count }, (_, index) => encodeRequest({ type: 0, cookie: BigInt(index), length: 16 })),
      ),
    )
    await settle()
    expect(connection.inFlight).toBe(MAX_IN_FLIGHT_REQUESTS)
    expect(far.paused).toBe(true)
    const cookies = new Set<bigint>()
    while (cookies.size < count) {
      for (const one of waiting.splice(0)) one.finish()
      cookies.add((await client.reply()).cookie)
      expect(connection.inFlight).toBeLessThanOrEqual(MAX_IN_FLIGHT_REQUESTS)
    }
    await settle()
    expect(far.paused).toBe(false)
    expect(connection.requestsServed).toBe(count)
  })

  it('stops reading at its bound of bytes in flight', async () => {
    const { device, waiting } = gated()
    const { client, connection } = setUp({ device, options: { maxInFlightBytes: 10_000 } })
    await client.go('disk', true)
    for (let count = 0; count < 5; count += 1) client.send(encodeRequest({ type: 1, data: Buffer.alloc(4096) }))
    await settle()
    expect(connection.inFlight).toBe(3)
    waiting.splice(0).forEach(one => {
      one.finish()
    })
    await settle()
    expect(connection.inFlight).toBe(2)
  })

  it('finishes what is in flight after DISC, answers it, then closes', async () => {
    const { device, waiting } = gated()
    const { client, connection, log } = setUp({ device })
    await client.go('disk', true)
    client.send(
      encodeRequest({ type: 1, cookie: 5n, data: Buffer.from('kept') }),
      encodeRequest({ type: wire.CMD_DISC }),
      encodeRequest({ type: 1, cookie: 6n, data: Buffer.from('late') }),
    )
    await settle()
    expect([connection.inFlight, log.at(-1)]).toEqual([1, 'open disk transmission left'])
    waiting[0]!.finish()
    expect((await client.reply()).cookie).toBe(5n)
    await client.untilEnd()
    await connection.closed
    expect([client.received.length, log.at(-1), waiting.length]).toEqual([0, 'released', 1])
    expect(connection.error).toBe(null)
  })

  it('keeps the export until requests of a lost connection are finished', async () => {
    const { device, waiting } = gated()
    const { client, connection, near, log } = setUp({ device })
    await client.go('disk', true)
    client.send(encodeRequest({ type: 1, data: Buffer.alloc(512) }))
    await settle()
    near.reset()
    await settle()
    expect([connection.inFlight, log.at(-1)]).toEqual([1, 'open disk transmission left'])
    waiting[0]!.finish()
    await connection.closed
    expect(log.at(-1)).toBe('released')
    expect(connection.error?.code).toBe('nbd-lost')
  })

  it('shuts down: no new request, those in flight answered, nothing afterwards', async () => {
    const { device, waiting } = gated()
    const { client, connection, log } = setUp({ device })
    await client.go('disk', true)
    client.send(encodeRequest({ type: 1, cookie: 9n, data: Buffer.alloc(512) }))
    await settle()
    let down = false
    const shutdown = connection.shutdown('fenced').then(() => {
      down = true
    })
    client.send(encodeRequest({ type: 1, cookie: 10n, data: Buffer.alloc(512) }))
    await settle()
    expect([down, waiting.length]).toEqual([false, 1])
    waiting[0]!.finish()
    await shutdown
    expect((await client.reply()).cookie).toBe(9n)
    await client.untilEnd()
    expect([client.received.length, waiting.length, log.at(-1)]).toEqual([0, 1, 'released'])
  })

  it('answers an option that waits for its export with SHUTDOWN when it shuts down', async () => {
    const { client, connection } = setUp({ exports: { open: () => new Promise(() => undefined) } })
    await client.greet()
    client.send(encodeOption(wire.OPT_GO, infoRequest('disk')))
    await settle()
    await connection.shutdown('going down')
    const reply = await client.optionReply()
    expect([reply.type, reply.data.toString()]).toEqual([wire.REP_ERR_SHUTDOWN, 'going down'])
    await client.untilEnd()
  })
})
