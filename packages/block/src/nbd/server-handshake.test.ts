// The server's handshake against the protocol document, byte by byte: what it offers, what it refuses, and how it ends.

import { describe, expect, it } from 'vitest'
import { MemoryDevice } from '../memory-device.ts'
import { encodeMetaRequest, encodeOption } from './options.ts'
import { NbdRefusal } from './server.ts'
import { HANDSHAKE_TIMEOUT_MS, MAX_OPTION_BYTES, MAX_OPTIONS } from './server-handshake.ts'
import { infoRequest } from './testing/raw-client.ts'
import { memory, SIZE, setUp } from './testing/server-setup.ts'
import { settle } from './testing/stream-pair.ts'
import * as wire from './wire.ts'

describe('NBD server: handshake', () => {
  it('greets with fixed newstyle and no-zeroes', async () => {
    const { client } = setUp()
    const greeting = await client.greet()
    expect(greeting.subarray(0, 16).toString()).toBe('NBDMAGICIHAVEOPT')
    expect(wire.readU16(greeting, 16)).toBe(3)
  })

  it('drops a client that sets unknown flags', async () => {
    const { client, connection } = setUp()
    await client.greet(0x13)
    await connection.closed
    expect(connection.error?.code).toBe('nbd-protocol-error')
  })

  it('lists exports, and refuses LIST with data', async () => {
    const { client } = setUp()
    await client.greet()
    const replies = await client.option(wire.OPT_LIST)
    expect(replies.map(reply => reply.type)).toEqual([2, 2, 1])
    expect(replies[0]!.data.subarray(4).toString()).toBe('diska disk')
    expect((await client.option(wire.OPT_LIST, Buffer.from('x')))[0]!.type).toBe(wire.REP_ERR_INVALID)
    expect((await client.option(wire.OPT_LIST)).length).toBe(3)
  })

  it.each([4, 5, 8 + 3, 99, 0xffff_ffff])('answers option %i, which it does not know, with UNSUP', async option => {
    const { client } = setUp()
    await client.greet()
    const replies = await client.option(option, Buffer.from('some data'))
    expect(replies.map(reply => reply.type)).toEqual([wire.REP_ERR_UNSUP])
    expect((await client.option(wire.OPT_GO, infoRequest('disk'))).at(-1)!.type).toBe(wire.REP_ACK)
  })

  it('acknowledges ABORT and closes in order', async () => {
    const { client, connection, log } = setUp()
    await client.greet()
    expect((await client.option(wire.OPT_ABORT))[0]!.type).toBe(wire.REP_ACK)
    await client.untilEnd()
    await connection.closed
    expect(connection.error).toBe(null)
    expect(log).toEqual([])
  })

  it('refuses options whose data does not fit, and goes on', async () => {
    const { client } = setUp()
    await client.greet()
    const short = infoRequest('disk')
    wire.writeU32(short, 0, 1000)
    const trailing = Buffer.concat([infoRequest('disk'), Buffer.from('x')])
    for (const data of [Buffer.alloc(0), Buffer.alloc(5), short, trailing, infoRequest('di\0sk')]) {
      expect((await client.option(wire.OPT_GO, data))[0]!.type).toBe(wire.REP_ERR_INVALID)
    }
    expect((await client.option(wire.OPT_STRUCTURED_REPLY, Buffer.alloc(1)))[0]!.type).toBe(wire.REP_ERR_INVALID)
    expect((await client.option(wire.OPT_GO, infoRequest('n'.repeat(5000))))[0]!.type).toBe(wire.REP_ERR_TOO_BIG)
    expect((await client.option(wire.OPT_GO, infoRequest('disk'))).at(-1)!.type).toBe(wire.REP_ACK)
  })

  it('skips and refuses option data beyond its limit, and drops a client that floods', async () => {
    const { client, connection } = setUp()
    await client.greet()
    const replies = await client.option(wire.OPT_GO, Buffer.alloc(MAX_OPTION_BYTES + 1))
    expect(replies[0]!.type).toBe(wire.REP_ERR_TOO_BIG)
    const header = encodeOption(wire.OPT_GO, new Uint8Array(0))
    wire.writeU32(header, 12, 0xffff_ffff)
    client.send(header)
    await connection.closed
    expect(connection.error?.code).toBe('nbd-limit')
  })

  it('bounds the number of options', async () => {
    const { client, connection } = setUp()
    await client.greet()
    for (let count = 0; count < MAX_OPTIONS; count += 1) await client.option(99)
    client.send(encodeOption(99, new Uint8Array(0)))
    await connection.closed
    expect(connection.error?.code).toBe('nbd-limit')
  })

  it('drops an option without its magic', async () => {
    const { client, connection } = setUp()
    await client.greet()
    client.send(Buffer.alloc(16))
    await connection.closed
    expect(connection.error?.code).toBe('nbd-protocol-error')
  })

  it('takes only EXPORT_NAME from a client without fixed newstyle', async () => {
    const { client, connection } = setUp()
    await client.greet(0)
    client.send(encodeOption(wire.OPT_LIST, new Uint8Array(0)))
    await connection.closed
    expect(connection.error?.code).toBe('nbd-protocol-error')
  })

  it.each([
    [3, 10],
    [1, 134],
    [0, 134],
  ])('answers EXPORT_NAME with client flags %i in %i bytes', async (flags, length) => {
    const { client, connection } = setUp()
    await client.greet(flags)
    client.send(encodeOption(wire.OPT_EXPORT_NAME, Buffer.from('disk')))
    const reply = await client.take(length)
    expect(reply.readBigUInt64BE(0)).toBe(BigInt(SIZE))
    expect(wire.readU16(reply, 8) & wire.FLAG_HAS_FLAGS).toBe(1)
    expect((await client.request({ type: wire.CMD_READ, length: 512 }, 512)).payload.length).toBe(512)
    expect(connection.exportName).toBe('disk')
  })

  it('just closes when EXPORT_NAME names no export', async () => {
    const { client, connection } = setUp()
    await client.greet()
    client.send(encodeOption(wire.OPT_EXPORT_NAME, Buffer.from('nothing')))
    await client.untilEnd()
    await connection.closed
    expect(client.received.length).toBe(0)
  })

  it('gives the refusal of an export as the error reply with its text', async () => {
    const { client } = setUp({
      exports: {
        open: async name => {
          throw name === 'crash' ? new Error('disk on fire') : new NbdRefusal('policy', 'epoch-refused: you are fenced')
        },
      },
    })
    await client.greet()
    const [refused] = await client.option(wire.OPT_GO, infoRequest('disk'))
    expect([refused!.type, refused!.data.toString()]).toEqual([wire.REP_ERR_POLICY, 'epoch-refused: you are fenced'])
    expect((await client.option(wire.OPT_INFO, infoRequest('crash')))[0]!.data.toString()).toBe('disk on fire')
  })

  it('tells about an export with INFO, without entering it', async () => {
    const { client, log } = setUp({ device: memory({ minimum: 512, preferred: 4096, maximum: 65536 }) })
    await client.greet()
    const replies = await client.option(wire.OPT_INFO, infoRequest('disk', [wire.INFO_NAME, wire.INFO_DESCRIPTION, 77]))
    const infos = replies.slice(0, -1).map(reply => [wire.readU16(reply.data, 0), reply.data.subarray(2)] as const)
    const sizes = infos.find(([info]) => info === wire.INFO_BLOCK_SIZE)![1]
    expect([sizes.readUInt32BE(0), sizes.readUInt32BE(4), sizes.readUInt32BE(8)]).toEqual([512, 4096, 65536])
    expect(infos.map(([info]) => info)).toEqual([0, 3, 1, 2])
    expect(infos[2]![1].toString()).toBe('disk')
    expect(log).toEqual(['open disk info left', 'released'])
    expect((await client.option(wire.OPT_GO, infoRequest('disk'))).at(-1)!.type).toBe(wire.REP_ACK)
  })

  it('wants clients to know of blocks larger than a sector', async () => {
    const { client, log } = setUp({ device: memory({ minimum: 4096 }) })
    await client.greet()
    const replies = await client.option(wire.OPT_GO, infoRequest('disk'))
    expect(replies.at(-1)!.type).toBe(wire.REP_ERR_BLOCK_SIZE_REQD)
    expect(log).toEqual(['open disk transmission left', 'released'])
    expect((await client.option(wire.OPT_GO, infoRequest('disk', [wire.INFO_BLOCK_SIZE]))).at(-1)!.type).toBe(1)
  })

  it.each([
    [{}, 0x96d],
    [{ readOnly: true }, 0x96f],
    [{ flush: false, fua: false, trim: false, zero: false, multiConn: false }, 1],
    [{ fastZero: false }, 0x16d],
  ])('offers what the device can: %o', async (caps, flags) => {
    const { client } = setUp({ device: memory({}, caps) })
    const replies = await client.go('disk', false)
    const info = replies.find(reply => reply.type === wire.REP_INFO && wire.readU16(reply.data, 0) === 0)!
    expect(wire.readU16(info.data, 10).toString(16)).toBe(flags.toString(16))
  })

  it('offers DF only with structured replies', async () => {
    const { client } = setUp()
    const replies = await client.go('disk', true)
    expect(wire.readU16(replies[0]!.data, 10) & wire.FLAG_SEND_DF).toBe(wire.FLAG_SEND_DF)
  })

  it('selects base:allocation only after structured replies, by its name, for its export', async () => {
    const { client } = setUp()
    await client.greet()
    const ask = (option: number, name: string, ...queries: string[]) =>
      client.option(option, encodeMetaRequest({ name, queries })).then(replies => replies.map(reply => reply.type))
    expect(await ask(wire.OPT_SET_META_CONTEXT, 'disk', 'base:allocation')).toEqual([wire.REP_ERR_INVALID])
    await client.option(wire.OPT_STRUCTURED_REPLY)
    expect(await ask(wire.OPT_LIST_META_CONTEXT, 'disk')).toEqual([4, 1])
    expect(await ask(wire.OPT_LIST_META_CONTEXT, 'disk', 'base:')).toEqual([4, 1])
    expect(await ask(wire.OPT_LIST_META_CONTEXT, 'disk', 'x-mine:dirty')).toEqual([1])
    expect(await ask(wire.OPT_SET_META_CONTEXT, 'disk')).toEqual([1])
    expect(await ask(wire.OPT_SET_META_CONTEXT, 'nothing', 'base:allocation')).toEqual([wire.REP_ERR_UNKNOWN])
    expect(await ask(wire.OPT_SET_META_CONTEXT, 'disk', 'x:y', 'base:allocation')).toEqual([4, 1])
    const broken = Buffer.from(encodeMetaRequest({ name: 'disk', queries: ['base:allocation'] }))
    wire.writeU32(broken, 8, 2)
    expect((await client.option(wire.OPT_LIST_META_CONTEXT, broken))[0]!.type).toBe(wire.REP_ERR_INVALID)
  })

  it('ends a client that stalls, but not while the export is being opened', async () => {
    let opened: (() => void) | undefined
    const device = new MemoryDevice({ size: SIZE })
    const { client, connection, timers } = setUp({
      exports: {
        open: () =>
          new Promise(resolve => {
            opened = () => resolve({ device, released: () => undefined })
          }),
      },
    })
    await client.greet()
    client.send(encodeOption(wire.OPT_GO, infoRequest('disk')))
    await settle()
    await timers.advance(10 * HANDSHAKE_TIMEOUT_MS)
    expect(connection.error).toBe(null)
    opened!()
    expect((await client.optionReply()).type).toBe(wire.REP_INFO)
    const stalling = setUp()
    await stalling.client.greet()
    await stalling.timers.advance(HANDSHAKE_TIMEOUT_MS)
    await stalling.connection.closed
    expect(stalling.connection.error?.code).toBe('nbd-timeout')
  })

  it('releases an export that is opened for a client already gone', async () => {
    const events: string[] = []
    let opened: (() => void) | undefined
    const { client, connection, near } = setUp({
      exports: {
        open: () =>
          new Promise(resolve => {
            opened = () =>
              resolve({ device: new MemoryDevice({ size: SIZE }), released: () => events.push('released') })
          }),
      },
    })
    await client.greet()
    client.send(encodeOption(wire.OPT_GO, infoRequest('disk')))
    await settle()
    near.destroy()
    await connection.closed
    opened!()
    await settle()
    expect(events).toEqual(['released'])
  })
})
