// The client's half of the handshake: fixed newstyle with GO, or EXPORT_NAME where a server knows no better. Ends with
// what was negotiated, or with a refusal or a coded error.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import type { Caps, Limits } from '../device.ts'
import {
  capsOfFlags,
  DEFAULT_LIMITS,
  decodeBlockSize,
  encodeInfoRequest,
  encodeMetaRequest,
  encodeOption,
} from './options.ts'
import type { StreamParser } from './stream-parser.ts'
import {
  BASE_ALLOCATION,
  decodeMessage,
  EXPORT_NAME_PADDING_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  encodeString,
  GREETING_BYTES,
  HANDSHAKE_FIXED_NEWSTYLE,
  HANDSHAKE_NO_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  joinSmall,
  MAGIC_INIT_HI,
  MAGIC_INIT_LO,
  MAGIC_OLDSTYLE_HI,
  MAGIC_OPTION_HI,
  MAGIC_OPTION_LO,
  MAGIC_OPTION_REPLY_HI,
  MAGIC_OPTION_REPLY_LO,
  NbdError,
  NbdRefusal,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_REPLY_HEADER_BYTES,
  REP_ACK,
  REP_ERR_UNSUP,
  REP_ERROR_BIT,
  REP_INFO,
  REP_META_CONTEXT,
  readU16,
  readU32,
  readU64,
  refusalReply,
  writeU32,
} from './wire.ts'

/** A reply's data in the handshake; a server that sends more is cut off. */
export const MAX_OPTION_REPLY_BYTES = 64 * 1024
/** Replies to one option. */
export const MAX_OPTION_REPLIES = 1024
/** How long a server may take for the greeting and each option but the one that opens the export. */
export const CLIENT_HANDSHAKE_TIMEOUT_MS = 10_000

export interface ExportFacts {
  readonly size: number
  readonly limits: Limits
  readonly caps: Caps
  readonly structured: boolean
  /** The id of base:allocation, or null if it was not granted. */
  readonly allocationContext: number | null
}

export interface ClientHandshakeOptions {
  readonly exportName: string
  readonly timers: Timers | null
  readonly timeoutMs: number
  readonly openTimeoutMs: number | null
  readonly structured: boolean
  readonly metaContexts: readonly string[]
}

export interface ClientHandshakeEnd {
  ready(facts: ExportFacts): void
  failed(error: NbdError | NbdRefusal): void
}

const NO_DATA = new Uint8Array(0)

/** Protocol errors are thrown out of the parser's handlers: the owner of the stream catches them. */
export class ClientHandshake {
  readonly #stream: ByteStream
  readonly #parser: StreamParser
  readonly #options: ClientHandshakeOptions
  readonly #end: ClientHandshakeEnd
  #timer: Timer | null = null
  #fixed = false
  #noZeroes = false
  #structured = false
  #allocationContext: number | null = null
  #option = 0
  #replies = 0
  #replyType = 0
  #exportInfo: { size: number; flags: number } | null = null
  #limits: Limits = DEFAULT_LIMITS

  constructor(stream: ByteStream, parser: StreamParser, options: ClientHandshakeOptions, end: ClientHandshakeEnd) {
    this.#stream = stream
    this.#parser = parser
    this.#options = options
    this.#end = end
  }

  start(): void {
    this.#parser.header(GREETING_BYTES, this.#onGreeting)
    this.#arm(this.#options.timeoutMs)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  readonly #onGreeting = (bytes: Uint8Array, at: number): void => {
    if (readU32(bytes, at) !== MAGIC_INIT_HI || readU32(bytes, at + 4) !== MAGIC_INIT_LO) {
      throw this.#violation('the other side does not speak NBD')
    }
    if (readU32(bytes, at + 8) === MAGIC_OLDSTYLE_HI) {
      throw new NbdError('nbd-unsupported', 'the server speaks the oldstyle handshake', this.#stream.peer)
    }
    if (readU32(bytes, at + 8) !== MAGIC_OPTION_HI || readU32(bytes, at + 12) !== MAGIC_OPTION_LO) {
      throw this.#violation('an unknown kind of handshake')
    }
    const flags = readU16(bytes, at + 16)
    this.#fixed = (flags & HANDSHAKE_FIXED_NEWSTYLE) !== 0
    this.#noZeroes = (flags & HANDSHAKE_NO_ZEROES) !== 0
    const answer = new Uint8Array(4)
    writeU32(answer, 0, flags & (HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES))
    this.#stream.write([answer])
    if (!this.#fixed) this.#exportName()
    else if (this.#options.structured) this.#ask(OPT_STRUCTURED_REPLY, NO_DATA)
    else this.#go()
  }

  #ask(option: number, data: Uint8Array): void {
    this.#option = option
    this.#replies = 0
    this.#stream.write([encodeOption(option, data)])
    this.#parser.header(OPTION_REPLY_HEADER_BYTES, this.#onReply)
    this.#arm(option === OPT_GO ? this.#options.openTimeoutMs : this.#options.timeoutMs)
  }

  #go(): void {
    this.#ask(OPT_GO, encodeInfoRequest({ name: this.#options.exportName, infos: [INFO_BLOCK_SIZE] }))
  }

  #selectContexts(): void {
    const { exportName, metaContexts } = this.#options
    if (!this.#structured || metaContexts.length === 0) this.#go()
    else this.#ask(OPT_SET_META_CONTEXT, encodeMetaRequest({ name: exportName, queries: metaContexts }))
  }

  #exportName(): void {
    this.#option = OPT_EXPORT_NAME
    this.#stream.write([encodeOption(OPT_EXPORT_NAME, encodeString(this.#options.exportName))])
    this.#parser.header(EXPORT_NAME_REPLY_BYTES, (bytes, at) => {
      this.#exportInfo = { size: readU64(bytes, at), flags: readU16(bytes, at + 8) }
      if (this.#noZeroes) this.#ready()
      else this.#parser.skip(EXPORT_NAME_PADDING_BYTES, () => this.#ready())
    })
    this.#arm(this.#options.openTimeoutMs)
  }

  readonly #onReply = (bytes: Uint8Array, at: number): void => {
    if (readU32(bytes, at) !== MAGIC_OPTION_REPLY_HI || readU32(bytes, at + 4) !== MAGIC_OPTION_REPLY_LO) {
      throw this.#violation('an option reply without its magic')
    }
    if (readU32(bytes, at + 8) !== this.#option) throw this.#violation('a reply to an option that was not sent')
    this.#replyType = readU32(bytes, at + 12)
    const length = readU32(bytes, at + 16)
    this.#replies += 1
    if (length > MAX_OPTION_REPLY_BYTES || this.#replies > MAX_OPTION_REPLIES) {
      throw new NbdError('nbd-limit', 'the server floods the handshake', this.#stream.peer)
    }
    this.#parser.payload(length, this.#onReplyData)
  }

  readonly #onReplyData = (parts: Uint8Array[]): void => {
    const data = parts.length === 0 ? NO_DATA : joinSmall(parts)
    if (this.#replyType >= REP_ERROR_BIT) {
      this.#onErrorReply(this.#replyType, decodeMessage(data))
      return
    }
    if (this.#replyType === REP_ACK) {
      if (data.length > 0) throw this.#violation('an acknowledgement with data')
      this.#onAcknowledged()
      return
    }
    if (this.#replyType === REP_INFO && this.#option === OPT_GO) this.#onInfo(data)
    else if (this.#replyType === REP_META_CONTEXT && this.#option === OPT_SET_META_CONTEXT) this.#onContext(data)
    else throw this.#violation(`reply type ${this.#replyType} to option ${this.#option}`)
    this.#parser.header(OPTION_REPLY_HEADER_BYTES, this.#onReply)
  }

  #onErrorReply(type: number, message: string): void {
    if (this.#option === OPT_STRUCTURED_REPLY) this.#go()
    else if (this.#option === OPT_SET_META_CONTEXT && type === REP_ERR_UNSUP) this.#go()
    else if (this.#option === OPT_GO && type === REP_ERR_UNSUP) this.#exportName()
    else {
      this.stop()
      const reply = refusalReply(type)
      // The document wants a soft disconnect from a client that gives up.
      this.#stream.write([encodeOption(OPT_ABORT, NO_DATA)])
      const text = message === '' ? `the server refuses the export (${reply})` : message
      this.#end.failed(new NbdRefusal(reply, text, `${this.#options.exportName} at ${this.#stream.peer}`))
    }
  }

  #onAcknowledged(): void {
    if (this.#option === OPT_STRUCTURED_REPLY) {
      this.#structured = true
      this.#selectContexts()
    } else if (this.#option === OPT_SET_META_CONTEXT) this.#go()
    else {
      assert(this.#option === OPT_GO, 'an option without a continuation')
      if (this.#exportInfo === null) throw this.#violation('GO acknowledged without the size of the export')
      this.#ready()
    }
  }

  #onInfo(data: Uint8Array): void {
    if (data.length < 2) throw this.#violation('an empty piece of information')
    const info = readU16(data, 0)
    if (info === INFO_EXPORT) {
      if (data.length !== 12) throw this.#violation(`information on the export of ${data.length} bytes`)
      this.#exportInfo = { size: readU64(data, 2), flags: readU16(data, 10) }
    } else if (info === INFO_BLOCK_SIZE) {
      const limits = decodeBlockSize(data)
      if (limits === null) throw this.#violation('block size constraints no client can obey')
      this.#limits = limits
    }
  }

  #onContext(data: Uint8Array): void {
    if (data.length < 4) throw this.#violation('a metadata context without its id')
    if (decodeMessage(data.subarray(4)) === BASE_ALLOCATION) this.#allocationContext = readU32(data, 0)
  }

  #ready(): void {
    this.stop()
    const { size, flags } = this.#exportInfo!
    if (!Number.isSafeInteger(size)) throw this.#violation(`an export of ${size} bytes`)
    this.#end.ready({
      size,
      limits: this.#limits,
      caps: capsOfFlags(flags, this.#allocationContext !== null),
      structured: this.#structured,
      allocationContext: this.#allocationContext,
    })
  }

  #arm(delayMs: number | null): void {
    this.stop()
    if (this.#options.timers === null || delayMs === null) return
    this.#timer = this.#options.timers.after(delayMs, () => {
      this.#timer = null
      this.#end.failed(new NbdError('nbd-timeout', 'the server stalls in the handshake', this.#stream.peer))
    })
  }

  #violation(message: string): NbdError {
    return new NbdError('nbd-protocol-error', message, this.#stream.peer)
  }
}
