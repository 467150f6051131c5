// For tests: speaks NBD byte by byte, so that it can also speak it wrongly.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { encodeOption } from '../options.ts'
import {
  MAGIC_REQUEST,
  MAGIC_SIMPLE_REPLY,
  MAGIC_STRUCTURED_REPLY,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  readU16,
  readU32,
  writeU16,
  writeU32,
} from '../wire.ts'
import { settle } from './stream-pair.ts'

export interface OptionReply {
  readonly option: number
  readonly type: number
  readonly data: Buffer
}

export interface RawReply {
  readonly cookie: bigint
  readonly error: number
  /** Of a structured chunk; -1 for a simple reply. */
  readonly type: number
  readonly flags: number
  readonly payload: Buffer
  readonly message: string
}

export interface RawRequest {
  readonly type: number
  readonly flags?: number
  readonly cookie?: bigint
  readonly offset?: bigint
  readonly length?: number
  readonly data?: Uint8Array
  readonly magic?: number
}

export function encodeRequest(request: RawRequest): Buffer {
  const bytes = Buffer.alloc(28)
  writeU32(bytes, 0, request.magic ?? MAGIC_REQUEST)
  writeU16(bytes, 4, request.flags ?? 0)
  writeU16(bytes, 6, request.type)
  bytes.writeBigUInt64BE(request.cookie ?? 1n, 8)
  bytes.writeBigUInt64BE(request.offset ?? 0n, 16)
  writeU32(bytes, 24, request.length ?? request.data?.length ?? 0)
  return request.data === undefined ? bytes : Buffer.concat([bytes, request.data])
}

export function infoRequest(name: string, infos: readonly number[] = []): Buffer {
  const text = Buffer.from(name)
  const bytes = Buffer.alloc(4 + text.length + 2 + 2 * infos.length)
  writeU32(bytes, 0, text.length)
  text.copy(bytes, 4)
  writeU16(bytes, 4 + text.length, infos.length)
  infos.forEach((info, index) => {
    writeU16(bytes, 6 + text.length + 2 * index, info)
  })
  return bytes
}

export class RawClient {
  readonly stream: ByteStream
  received = Buffer.alloc(0)
  ended = false
  #structured = false

  constructor(stream: ByteStream) {
    this.stream = stream
    stream.onData(chunk => {
      this.received = Buffer.concat([this.received, chunk])
    })
    stream.onEnd(() => {
      this.ended = true
      stream.end()
    })
    stream.onClose(() => {
      this.ended = true
    })
  }

  send(...parts: readonly Uint8Array[]): void {
    this.stream.write(parts)
  }

  async take(length: number): Promise<Buffer> {
    for (let turns = 0; this.received.length < length && turns < 200 && !this.ended; turns += 1) await settle()
    if (this.received.length < length) {
      throw new Error(`wanted ${length} bytes, got ${this.received.length}, ended: ${this.ended}`)
    }
    const taken = this.received.subarray(0, length)
    this.received = this.received.subarray(length)
    return taken
  }

  async greet(flags = 3): Promise<Buffer> {
    const greeting = await this.take(18)
    const answer = Buffer.alloc(4)
    writeU32(answer, 0, flags)
    this.send(answer)
    return greeting
  }

  async option(option: number, data: Uint8Array = new Uint8Array(0)): Promise<OptionReply[]> {
    this.send(encodeOption(option, data))
    const replies: OptionReply[] = []
    for (;;) {
      const reply = await this.optionReply()
      replies.push(reply)
      if (reply.type === 1 || reply.type >= 0x8000_0000) return replies
    }
  }

  async optionReply(): Promise<OptionReply> {
    const header = await this.take(20)
    if (header.readBigUInt64BE(0) !== 0x3e889045565a9n) throw new Error('bad option reply magic')
    const data = await this.take(readU32(header, 16))
    return { option: readU32(header, 8), type: readU32(header, 12), data }
  }

  /** The whole handshake; `select`: the data of a SET_META_CONTEXT on the way. */
  async go(name: string, structured: boolean, select?: Uint8Array): Promise<OptionReply[]> {
    this.#structured = structured
    await this.greet()
    if (structured) await this.option(OPT_STRUCTURED_REPLY)
    if (select !== undefined) await this.option(OPT_SET_META_CONTEXT, select)
    return this.option(OPT_GO, infoRequest(name))
  }

  /** Sends and reads the reply; `dataLength`: what a successful simple reply carries. */
  async request(request: RawRequest, dataLength = 0): Promise<RawReply> {
    this.send(encodeRequest(request))
    return this.reply(dataLength)
  }

  async reply(dataLength = 0): Promise<RawReply> {
    const header = await this.take(16)
    const cookie = header.readBigUInt64BE(8)
    if (readU32(header, 0) === MAGIC_SIMPLE_REPLY) {
      const error = readU32(header, 4)
      const payload = error === 0 && dataLength > 0 ? await this.take(dataLength) : Buffer.alloc(0)
      return { cookie, error, type: -1, flags: 1, payload, message: '' }
    }
    if (readU32(header, 0) !== MAGIC_STRUCTURED_REPLY || !this.#structured) throw new Error('bad reply magic')
    const type = readU16(header, 6)
    const payload = await this.take(readU32(await this.take(4), 0))
    const failed = type >= 0x8000
    return {
      cookie,
      error: failed ? readU32(payload, 0) : 0,
      type,
      flags: readU16(header, 4),
      payload,
      message: failed ? payload.subarray(6, 6 + readU16(payload, 4)).toString() : '',
    }
  }

  async untilEnd(): Promise<void> {
    for (let turns = 0; !this.ended && turns < 200; turns += 1) await settle()
    if (!this.ended) throw new Error('the server did not end the connection')
  }
}
