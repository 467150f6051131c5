// Serves block devices over one NBD connection: reads requests, checks them as the protocol document says, hands them to
// the export's device and sends the replies. It has no policy about who may open what: that is `NbdExports`.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import type { BlockErrno, BlockExtent, Io } from '../device.ts'
import { Outbox } from './outbox.ts'
import { sendBlockStatus, sendDone, sendError, sendRead } from './replies.ts'
import { checkRequest, type Request } from './requests.ts'
import {
  HANDSHAKE_TIMEOUT_MS,
  type HandshakeHost,
  type NbdExports,
  type Negotiated,
  ServerHandshake,
} from './server-handshake.ts'
import { StreamParser } from './stream-parser.ts'
import {
  CMD_BLOCK_STATUS,
  CMD_DISC,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  errnoOf,
  MAGIC_REQUEST,
  MAX_SKIPPED_BYTES,
  NbdError,
  REQUEST_BYTES,
  readU16,
  readU32,
} from './wire.ts'

export type { NbdExport, NbdExports } from './server-handshake.ts'
export { NbdRefusal } from './wire.ts'

/** Requests of one connection at its device; reading stops at this many. */
export const MAX_IN_FLIGHT_REQUESTS = 256
/** Bytes asked for and given by requests in flight; reading stops above. */
export const MAX_IN_FLIGHT_BYTES = 64 * 1024 * 1024
/** How long the other side may take to close after we ended our half. */
export const CLOSE_LINGER_MS = 2_000

export interface ServeNbdOptions {
  readonly timers: Timers
  readonly handshakeTimeoutMs?: number
  readonly maxInFlightRequests?: number
  readonly maxInFlightBytes?: number
}

export interface NbdConnection {
  readonly peer: string
  /** Null until an export is chosen. */
  readonly exportName: string | null
  readonly inFlight: number
  readonly requestsServed: number
  /**
   * Takes no new request, waits for those in flight (they finish at the device), closes. After it resolves no request
   * of this connection ever takes effect.
   */
  shutdown(reason: string): Promise<void>
  /** Resolves when the connection is over, all of its requests are finished and the export is released. */
  readonly closed: Promise<void>
  /** Why it ended: null while it lives, or if it ended in order. */
  readonly error: NbdError | null
}

export function serveNbd(stream: ByteStream, exports: NbdExports, options: ServeNbdOptions): NbdConnection {
  const connection = new ServerConnection(stream, exports, options)
  connection.start()
  return connection
}

class ServerConnection implements NbdConnection, HandshakeHost {
  readonly peer: string
  readonly timers: Timers
  readonly parser = new StreamParser()
  readonly outbox: Outbox
  readonly closed: Promise<void>
  exportName: string | null = null
  inFlight = 0
  requestsServed = 0
  error: NbdError | null = null
  readonly #stream: ByteStream
  readonly #handshake: ServerHandshake
  readonly #maxRequests: number
  readonly #maxBytes: number
  #resolveClosed: () => void = () => undefined
  #inFlightBytes = 0
  #negotiated: Negotiated | null = null
  #io: Io
  #current: Request = { type: 0, flags: 0, cookieHi: 0, cookieLo: 0, offset: 0, length: 0 }
  #refusal: { errno: BlockErrno; message: string } | null = null
  /** No new request is taken. */
  #ending = false
  /** The stream is gone: nothing can be sent. */
  #gone = false
  #over = false
  #paused = false
  #linger: Timer | null = null

  constructor(stream: ByteStream, exports: NbdExports, options: ServeNbdOptions) {
    this.#stream = stream
    this.peer = stream.peer
    this.timers = options.timers
    this.outbox = new Outbox(stream)
    this.#io = { origin: stream.peer, deadlineAt: null }
    this.#maxRequests = options.maxInFlightRequests ?? MAX_IN_FLIGHT_REQUESTS
    this.#maxBytes = options.maxInFlightBytes ?? MAX_IN_FLIGHT_BYTES
    assert(this.#maxRequests > 0 && this.#maxBytes > 0, 'a connection must take at least one request')
    this.closed = new Promise(resolve => {
      this.#resolveClosed = resolve
    })
    this.#handshake = new ServerHandshake(this, exports, options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS)
  }

  start(): void {
    this.#stream.onData(chunk => this.#onData(chunk))
    this.#stream.onDrain(() => {
      this.outbox.drained()
      this.#unpause()
    })
    this.#stream.onEnd(() => this.finish(null))
    this.#stream.onClose(error => {
      this.#gone = true
      this.outbox.kill()
      this.finish(error === null ? null : new NbdError('nbd-lost', errorMessage(error), this.peer, error))
    })
    this.#handshake.start()
  }

  async shutdown(reason: string): Promise<void> {
    if (!this.#ending) {
      this.#handshake.shutdown(reason)
      this.finish(new NbdError('nbd-cancelled', reason, this.peer))
    }
    await this.closed
  }

  // --- the handshake's host ---

  resume(): void {
    if (this.#ending) return
    this.#guard(() => this.parser.release())
  }

  ready(negotiated: Negotiated): void {
    this.#negotiated = negotiated
    this.exportName = negotiated.exportName
    this.#io = { origin: `${negotiated.exportName}@${this.peer}`, deadlineAt: null }
    this.parser.header(REQUEST_BYTES, this.#onRequest)
  }

  /** Takes nothing more, lets the requests in flight finish and be answered, then closes. */
  finish(error: NbdError | null): void {
    if (this.#ending) {
      this.#settle()
      return
    }
    this.#ending = true
    this.error = error
    this.#handshake.stop()
    this.parser.discard()
    this.parser.release()
    this.#settle()
  }

  // --- requests ---

  #onData(chunk: Uint8Array): void {
    if (this.#ending) return
    this.#guard(() => this.parser.push(chunk))
    if (this.outbox.blocked) this.#pause()
  }

  #guard(f: () => void): void {
    try {
      f()
    } catch (error) {
      if (!(error instanceof NbdError)) throw error
      this.finish(error)
    }
  }

  readonly #onRequest = (bytes: Uint8Array, at: number): void => {
    if (readU32(bytes, at) !== MAGIC_REQUEST) {
      throw new NbdError('nbd-protocol-error', 'a request without its magic', this.peer)
    }
    const negotiated = this.#negotiated!
    const request: Request = {
      flags: readU16(bytes, at + 4),
      type: readU16(bytes, at + 6),
      cookieHi: readU32(bytes, at + 8),
      cookieLo: readU32(bytes, at + 12),
      offset: readU32(bytes, at + 16) * 0x1_0000_0000 + readU32(bytes, at + 20),
      length: readU32(bytes, at + 24),
    }
    if (request.type === CMD_DISC) {
      this.finish(null)
      return
    }
    const refusal = checkRequest(request, negotiated.opened.device, negotiated.structured, negotiated.blockStatus)
    if (request.type !== CMD_WRITE) {
      this.parser.header(REQUEST_BYTES, this.#onRequest)
      if (refusal === null) this.#execute(request, null)
      else this.#answerError(request, refusal.errno, refusal.message)
      return
    }
    this.#current = request
    this.#refusal = refusal
    if (refusal === null) this.parser.payload(request.length, this.#onPayload)
    else if (request.length > MAX_SKIPPED_BYTES) {
      throw new NbdError('nbd-limit', `a write of ${request.length} bytes`, this.peer)
    } else this.parser.skip(request.length, this.#onSkipped)
  }

  readonly #onPayload = (parts: Uint8Array[]): void => {
    this.parser.header(REQUEST_BYTES, this.#onRequest)
    this.#execute(this.#current, parts)
  }

  readonly #onSkipped = (): void => {
    this.parser.header(REQUEST_BYTES, this.#onRequest)
    const refusal = this.#refusal!
    this.#answerError(this.#current, refusal.errno, refusal.message)
  }

  #execute(request: Request, data: Uint8Array[] | null): void {
    const { opened, structured } = this.#negotiated!
    const device = opened.device
    const { offset, length, flags } = request
    const transfer = request.type === CMD_READ || request.type === CMD_WRITE ? length : 0
    this.inFlight += 1
    this.#inFlightBytes += transfer
    const failed = (error: unknown): void => {
      if (!this.#gone) sendError(this.outbox, request, structured, errnoOf(error), errorMessage(error))
      this.#finished(transfer)
    }
    const done = (): void => {
      if (!this.#gone) sendDone(this.outbox, request)
      this.#finished(transfer)
    }
    if (length === 0 && request.type !== CMD_FLUSH) {
      // The document leaves zero-length requests open but for the connection's survival: they do nothing, well.
      if (request.type === CMD_READ) this.#readDone(request, [])
      else done()
    } else if (request.type === CMD_READ) {
      device.read(offset, length, this.#io).then(parts => this.#readDone(request, parts), failed)
    } else if (request.type === CMD_WRITE) {
      device.write(offset, data!, (flags & CMD_FLAG_FUA) !== 0 ? FUA : NO_FLAGS, this.#io).then(done, failed)
    } else if (request.type === CMD_FLUSH) {
      device.flush(this.#io).then(done, failed)
    } else if (request.type === CMD_TRIM) {
      device.trim(offset, length, (flags & CMD_FLAG_FUA) !== 0 ? FUA : NO_FLAGS, this.#io).then(done, failed)
    } else if (request.type === CMD_WRITE_ZEROES) {
      device.zero(offset, length, zeroFlags(flags), this.#io).then(done, failed)
    } else {
      assert(request.type === CMD_BLOCK_STATUS && device.blockStatus !== undefined, 'an unchecked request')
      device.blockStatus(offset, length, this.#io).then(extents => this.#statusDone(request, extents), failed)
    }
    if (this.inFlight >= this.#maxRequests || this.#inFlightBytes >= this.#maxBytes) this.#pause()
  }

  #readDone(request: Request, parts: Uint8Array[]): void {
    if (!this.#gone) sendRead(this.outbox, request, this.#negotiated!.structured, parts)
    this.#finished(request.length)
  }

  #statusDone(request: Request, extents: BlockExtent[]): void {
    if (!this.#gone) sendBlockStatus(this.outbox, request, (request.flags & CMD_FLAG_REQ_ONE) !== 0, extents)
    this.#finished(0)
  }

  #answerError(request: Request, errno: BlockErrno, message: string): void {
    sendError(this.outbox, request, this.#negotiated!.structured, errno, message)
    this.requestsServed += 1
  }

  #finished(transfer: number): void {
    this.inFlight -= 1
    this.#inFlightBytes -= transfer
    this.requestsServed += 1
    if (this.#ending) this.#settle()
    else if (this.#paused) this.#unpause()
  }

  #pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.parser.hold()
    this.#stream.pause()
  }

  #unpause(): void {
    if (!this.#paused || this.#ending || this.outbox.blocked) return
    if (this.inFlight >= this.#maxRequests || this.#inFlightBytes >= this.#maxBytes) return
    this.#paused = false
    this.#guard(() => this.parser.release())
    if (!this.#paused && !this.#ending) this.#stream.resume()
  }

  // --- the end ---

  /** Ends the stream once nothing is in flight, and tells the export when that is done. */
  #settle(): void {
    if (this.inFlight > 0) return
    if (!this.#over) {
      this.#over = true
      if (this.#gone) this.outbox.kill()
      else {
        this.outbox.flush()
        // What the client still sends is dropped, so that it sees our end and not a reset.
        this.#stream.resume()
        this.#stream.end()
        this.#linger = this.timers.after(CLOSE_LINGER_MS, () => this.#stream.destroy())
      }
      this.#negotiated?.opened.released()
      this.#resolveClosed()
    }
    if (this.#gone) this.#linger?.cancel()
  }
}

const NO_FLAGS = {}
const FUA = { fua: true } as const

function zeroFlags(flags: number): { readonly fua?: true; readonly noHole?: true; readonly fast?: true } {
  if (flags === 0) return NO_FLAGS
  return {
    ...((flags & CMD_FLAG_FUA) !== 0 ? FUA : NO_FLAGS),
    ...((flags & CMD_FLAG_NO_HOLE) !== 0 ? { noHole: true as const } : NO_FLAGS),
    ...((flags & CMD_FLAG_FAST_ZERO) !== 0 ? { fast: true as const } : NO_FLAGS),
  }
}
