// The server's half of the handshake (fixed newstyle): answers options until the client chooses an export or leaves.
// It ends before the first request is read; server.ts goes on from there.

import { AssertionFailure, assert } from '@stellwerk/runtime/assert.ts'
import type { Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import type { BlockDevice } from '../device.ts'
import {
  decodeInfoRequest,
  decodeMetaRequest,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerReply,
  transmissionFlags,
} from './options.ts'
import type { Outbox } from './outbox.ts'
import type { StreamParser } from './stream-parser.ts'
import {
  BASE_ALLOCATION,
  CLIENT_FLAGS_BYTES,
  decodeString,
  EXPORT_NAME_PADDING_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  encodeString,
  GREETING_BYTES,
  HANDSHAKE_FIXED_NEWSTYLE,
  HANDSHAKE_NO_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_DESCRIPTION,
  INFO_NAME,
  joinSmall,
  MAGIC_INIT_HI,
  MAGIC_INIT_LO,
  MAGIC_OPTION_HI,
  MAGIC_OPTION_LO,
  MAX_STRING_BYTES,
  NbdError,
  NbdRefusal,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_GO,
  OPT_INFO,
  OPT_LIST,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER_BYTES,
  REP_ACK,
  REP_INFO,
  REP_META_CONTEXT,
  REP_SERVER,
  type RefusalReply,
  readU32,
  refusalType,
  writeU16,
  writeU32,
  writeU64,
} from './wire.ts'

export interface NbdExport {
  readonly device: BlockDevice
  readonly description?: string
  /** The connection is over and all of its requests are finished. Called once. */
  released(): void
}

export interface NbdExports {
  list(): Promise<readonly { readonly name: string; readonly description?: string }[]>
  /**
   * `purpose` is `info` when the client only asks about the export: then nothing but looking is allowed to happen (no
   * session is raised), and `released` follows at once. Rejects with an NbdRefusal: the option's error reply.
   */
  open(name: string, peer: string, purpose: 'transmission' | 'info'): Promise<NbdExport>
}

export interface Negotiated {
  readonly exportName: string
  readonly opened: NbdExport
  readonly structured: boolean
  readonly blockStatus: boolean
}

/** Options one client may send before it chooses an export. */
export const MAX_OPTIONS = 64
/** An option's data: two strings' worth and more; what is longer is skipped and refused. */
export const MAX_OPTION_BYTES = 64 * 1024
/** Longer than this is not worth skipping: the connection ends. */
export const MAX_SKIPPED_OPTION_BYTES = 1024 * 1024
/** How long a client may take for each of its messages; our own opening of an export is not counted. */
export const HANDSHAKE_TIMEOUT_MS = 10_000
/** Exports named in a reply to LIST. */
export const MAX_LISTED_EXPORTS = 10_000
/** Unaligned requests by a client that did not ask for constraints are unlikely up to here: every disk has sectors. */
const COMMON_SECTOR_BYTES = 512
const META_CONTEXT_ID = 1
const NO_DATA = new Uint8Array(0)

export interface HandshakeHost {
  readonly peer: string
  readonly timers: Timers
  readonly parser: StreamParser
  readonly outbox: Outbox
  /** Runs handlers that were held; errors thrown there are the connection's. */
  resume(): void
  ready(negotiated: Negotiated): void
  /** Ends the connection after what was sent; null: in order. */
  finish(error: NbdError | null): void
}

export class ServerHandshake {
  readonly #host: HandshakeHost
  readonly #exports: NbdExports
  readonly #timeoutMs: number
  #timer: Timer | null = null
  #fixed = false
  #noZeroes = false
  #structured = false
  /** The export the meta context was selected for. */
  #metaFor: string | null = null
  #options = 0
  #option = 0
  #length = 0
  #over = false
  /** An option is being answered by the exports. */
  #busy = false

  constructor(host: HandshakeHost, exports: NbdExports, timeoutMs: number) {
    this.#host = host
    this.#exports = exports
    this.#timeoutMs = timeoutMs
  }

  start(): void {
    const greeting = new Uint8Array(GREETING_BYTES)
    writeU32(greeting, 0, MAGIC_INIT_HI)
    writeU32(greeting, 4, MAGIC_INIT_LO)
    writeU32(greeting, 8, MAGIC_OPTION_HI)
    writeU32(greeting, 12, MAGIC_OPTION_LO)
    writeU16(greeting, 16, HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES)
    this.#host.outbox.append([greeting])
    this.#host.parser.header(CLIENT_FLAGS_BYTES, this.#onClientFlags)
    this.#arm()
  }

  /** The client is gone or the connection ends: nothing more is answered, what is being opened is released. */
  stop(): void {
    this.#over = true
    this.#disarm()
  }

  /** The server goes down: an option that is being answered gets that as its answer. */
  shutdown(reason: string): void {
    if (!this.#busy || this.#over || this.#option === OPT_EXPORT_NAME) return
    this.#reply(refusalType('shutdown'), encodeString(reason))
  }

  readonly #onClientFlags = (bytes: Uint8Array, at: number): void => {
    const flags = readU32(bytes, at)
    if ((flags & ~(HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES)) !== 0) {
      throw this.#violation(`unknown client flags 0x${flags.toString(16)}`)
    }
    this.#fixed = (flags & HANDSHAKE_FIXED_NEWSTYLE) !== 0
    this.#noZeroes = (flags & HANDSHAKE_NO_ZEROES) !== 0
    this.#nextOption()
  }

  #nextOption(): void {
    this.#host.parser.header(OPTION_HEADER_BYTES, this.#onOption)
    this.#arm()
  }

  readonly #onOption = (bytes: Uint8Array, at: number): void => {
    if (readU32(bytes, at) !== MAGIC_OPTION_HI || readU32(bytes, at + 4) !== MAGIC_OPTION_LO) {
      throw this.#violation('an option without its magic')
    }
    this.#option = readU32(bytes, at + 8)
    this.#length = readU32(bytes, at + 12)
    this.#options += 1
    if (this.#options > MAX_OPTIONS) throw this.#limit(`more than ${MAX_OPTIONS} options`)
    if (!this.#fixed && this.#option !== OPT_EXPORT_NAME) {
      throw this.#violation(`option ${this.#option} without having agreed on fixed newstyle`)
    }
    if (this.#option === OPT_EXPORT_NAME && this.#length > MAX_STRING_BYTES) {
      throw this.#violation(`an export name of ${this.#length} bytes`)
    }
    if (this.#length > MAX_SKIPPED_OPTION_BYTES) throw this.#limit(`option data of ${this.#length} bytes`)
    if (this.#length > MAX_OPTION_BYTES) this.#host.parser.skip(this.#length, this.#onSkipped)
    else this.#host.parser.payload(this.#length, this.#onOptionData)
  }

  readonly #onSkipped = (): void => {
    this.#refuse('too-big', `option data of ${this.#length} bytes; at most ${MAX_OPTION_BYTES} are taken`)
  }

  readonly #onOptionData = (parts: Uint8Array[]): void => {
    this.#disarm()
    const data = parts.length === 0 ? NO_DATA : joinSmall(parts)
    if (this.#option === OPT_ABORT) {
      this.#reply(REP_ACK)
      this.#host.finish(null)
      return
    }
    switch (this.#option) {
      case OPT_EXPORT_NAME:
        this.#exportName(data)
        return
      case OPT_INFO:
      case OPT_GO:
        this.#info(data)
        return
      case OPT_LIST:
        if (data.length > 0) this.#refuse('invalid', 'LIST takes no data')
        else this.#list()
        return
      case OPT_STRUCTURED_REPLY:
        if (data.length > 0) {
          this.#refuse('invalid', 'STRUCTURED_REPLY takes no data')
          return
        }
        this.#structured = true
        this.#reply(REP_ACK)
        this.#nextOption()
        return
      case OPT_LIST_META_CONTEXT:
      case OPT_SET_META_CONTEXT:
        this.#metaContext(data)
        return
      default:
        this.#refuse('unsupported', `option ${this.#option} is not supported`)
    }
  }

  #exportName(data: Uint8Array): void {
    const name = decodeString(data)
    if (name === null) throw this.#violation('an export name that is not UTF-8 without NUL')
    this.#open(
      name,
      'transmission',
      opened => {
        const reply = new Uint8Array(EXPORT_NAME_REPLY_BYTES + (this.#noZeroes ? 0 : EXPORT_NAME_PADDING_BYTES))
        writeU64(reply, 0, opened.device.size)
        writeU16(reply, 8, transmissionFlags(opened.device.caps, this.#structured))
        this.#host.outbox.append([reply])
        this.#ready(name, opened)
      },
      // EXPORT_NAME has no error reply: the document wants the session to end.
      (_reply, message) => this.#host.finish(new NbdError('nbd-unsupported', message, this.#host.peer)),
    )
  }

  #info(data: Uint8Array): void {
    const request = decodeInfoRequest(data)
    if ('refuse' in request) {
      this.#refuse(request.refuse, request.message)
      return
    }
    const { name, infos } = request.value
    const go = this.#option === OPT_GO
    this.#open(
      name,
      go ? 'transmission' : 'info',
      opened => {
        const { device } = opened
        this.#reply(REP_INFO, encodeInfoExport(device.size, transmissionFlags(device.caps, this.#structured)))
        this.#reply(REP_INFO, encodeInfoBlockSize(device.limits))
        if (infos.includes(INFO_NAME)) this.#reply(REP_INFO, encodeInfoText(INFO_NAME, name))
        if (infos.includes(INFO_DESCRIPTION) && opened.description !== undefined) {
          this.#reply(REP_INFO, encodeInfoText(INFO_DESCRIPTION, opened.description))
        }
        if (device.limits.minimum > COMMON_SECTOR_BYTES && !infos.includes(INFO_BLOCK_SIZE)) {
          opened.released()
          this.#refuse('block-size-required', `requests must be aligned to ${device.limits.minimum} bytes`)
          return
        }
        this.#reply(REP_ACK)
        if (go) {
          this.#ready(name, opened)
          return
        }
        opened.released()
        this.#nextOption()
      },
      (reply, message) => this.#refuse(reply, message),
    )
  }

  #list(): void {
    this.#busy = true
    this.#host.parser.hold()
    this.#exports.list().then(
      listed => {
        if (this.#over) return
        this.#busy = false
        if (listed.length > MAX_LISTED_EXPORTS) this.#refuse('too-big', `${listed.length} exports are too many to list`)
        else {
          for (const { name, description } of listed) this.#reply(REP_SERVER, encodeServerReply(name, description))
          this.#reply(REP_ACK)
          this.#nextOption()
        }
        this.#host.resume()
      },
      (error: unknown) => this.#openFailed(error, (reply, message) => this.#refuse(reply, message)),
    )
  }

  #metaContext(data: Uint8Array): void {
    const listing = this.#option === OPT_LIST_META_CONTEXT
    if (!this.#structured) {
      this.#refuse('invalid', 'metadata contexts need structured replies first')
      return
    }
    // A failed selection leaves none selected.
    if (!listing) this.#metaFor = null
    const request = decodeMetaRequest(data)
    if ('refuse' in request) {
      this.#refuse(request.refuse, request.message)
      return
    }
    const { name, queries } = request.value
    const wanted = queries.includes(BASE_ALLOCATION) || (listing && (queries.length === 0 || queries.includes('base:')))
    this.#open(
      name,
      'info',
      opened => {
        const has = opened.device.blockStatus !== undefined && opened.device.caps.blockStatus
        opened.released()
        if (has && wanted) {
          this.#reply(REP_META_CONTEXT, encodeMetaContext(listing ? 0 : META_CONTEXT_ID, BASE_ALLOCATION))
          if (!listing) this.#metaFor = name
        }
        this.#reply(REP_ACK)
        this.#nextOption()
      },
      (reply, message) => this.#refuse(reply, message),
    )
  }

  #open(
    name: string,
    purpose: 'transmission' | 'info',
    opened: (found: NbdExport) => void,
    refused: (reply: RefusalReply, message: string) => void,
  ): void {
    this.#busy = true
    this.#host.parser.hold()
    this.#exports.open(name, this.#host.peer, purpose).then(
      found => {
        if (this.#over) {
          found.released()
          return
        }
        this.#busy = false
        opened(found)
        this.#host.resume()
      },
      (error: unknown) => this.#openFailed(error, refused),
    )
  }

  #openFailed(error: unknown, refused: (reply: RefusalReply, message: string) => void): void {
    if (error instanceof AssertionFailure) throw error
    if (this.#over) return
    this.#busy = false
    if (error instanceof NbdRefusal) refused(error.reply, error.message)
    else refused('policy', errorMessage(error))
    this.#host.resume()
  }

  #ready(exportName: string, opened: NbdExport): void {
    assert(!this.#over, 'an export chosen after the end')
    this.stop()
    const { device } = opened
    const blockStatus = this.#metaFor === exportName && device.blockStatus !== undefined && device.caps.blockStatus
    this.#host.ready({ exportName, opened, structured: this.#structured, blockStatus })
  }

  #reply(type: number, data: Uint8Array = NO_DATA): void {
    this.#host.outbox.append([encodeOptionReply(this.#option, type, data)])
  }

  #refuse(reply: RefusalReply, message: string): void {
    this.#reply(refusalType(reply), encodeString(message))
    this.#nextOption()
  }

  #arm(): void {
    this.#disarm()
    this.#timer = this.#host.timers.after(this.#timeoutMs, () => {
      this.#timer = null
      this.#host.finish(new NbdError('nbd-timeout', 'the client stalls in the handshake', this.#host.peer))
    })
  }

  #disarm(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #violation(message: string): NbdError {
    return new NbdError('nbd-protocol-error', message, this.#host.peer)
  }

  #limit(message: string): NbdError {
    return new NbdError('nbd-limit', message, this.#host.peer)
  }
}
