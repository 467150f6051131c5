// A BlockDevice over one NBD connection. It does not reconnect, retry or time out: the path layer above decides. When
// the connection ends, whatever was in flight rejects with ESHUTDOWN: writes of unknown outcome, reads of none.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { totalLength } from '@stellwerk/runtime/parts.ts'
import {
  type BlockDevice,
  type BlockErrno,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Io,
  type Limits,
} from '../device.ts'
import { CLIENT_HANDSHAKE_TIMEOUT_MS, ClientHandshake, type ExportFacts } from './client-handshake.ts'
import { Outbox } from './outbox.ts'
import { type Pending, PendingTable, type ReplyHost, ReplyReader } from './reply-reader.ts'
import { StreamParser } from './stream-parser.ts'
import {
  BASE_ALLOCATION,
  CMD_BLOCK_STATUS,
  CMD_DISC,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  MAGIC_REQUEST,
  MAX_RANGE_BYTES,
  NbdError,
  type NbdRefusal,
  REQUEST_BYTES,
  writeU16,
  writeU32,
  writeU64,
} from './wire.ts'

export { NbdError, NbdRefusal } from './wire.ts'

/** Requests one client has in flight or buffered; more are refused with ENOMEM, outcome none. */
export const MAX_PENDING_REQUESTS = 16_384
/** How long the server may take to close after our DISC. */
export const DISCONNECT_LINGER_MS = 2_000

export interface ConnectNbdOptions {
  readonly exportName: string
  /** Without timers nothing times out. */
  readonly timers?: Timers
  /** For the greeting and each option; not for the opening of the export. */
  readonly handshakeTimeoutMs?: number
  /** For the opening of the export, which may have to drain others; null (default): as long as it takes. */
  readonly openTimeoutMs?: number | null
  readonly structured?: boolean
  readonly metaContexts?: readonly string[]
  /** Aborting it destroys the stream and rejects, or, once connected, does nothing. */
  readonly signal?: AbortSignal
}

/** Rejects with an NbdRefusal (`nbd-refused`, the server's text, its reply type) or an NbdError; the stream is closed. */
export function connectNbd(stream: ByteStream, options: ConnectNbdOptions): Promise<NbdClient> {
  return new Promise((resolve, reject) => {
    const parser = new StreamParser()
    let settled = false
    let linger: Timer | null = null
    const fail = (error: NbdError | NbdRefusal): void => {
      if (settled) return
      settled = true
      handshake.stop()
      parser.discard()
      options.signal?.removeEventListener('abort', onAbort)
      if (error instanceof NbdError) stream.destroy()
      else {
        stream.end()
        linger = options.timers?.after(DISCONNECT_LINGER_MS, () => stream.destroy()) ?? null
      }
      reject(error)
    }
    const onAbort = (): void => fail(new NbdError('nbd-cancelled', 'the attempt to connect was given up', stream.peer))
    const handshake = new ClientHandshake(
      stream,
      parser,
      {
        exportName: options.exportName,
        timers: options.timers ?? null,
        timeoutMs: options.handshakeTimeoutMs ?? CLIENT_HANDSHAKE_TIMEOUT_MS,
        openTimeoutMs: options.openTimeoutMs ?? null,
        structured: options.structured ?? true,
        metaContexts: options.metaContexts ?? [BASE_ALLOCATION],
      },
      {
        ready: facts => {
          settled = true
          options.signal?.removeEventListener('abort', onAbort)
          resolve(new NbdClient(stream, parser, facts, options))
        },
        failed: fail,
      },
    )
    stream.onData(chunk => {
      try {
        parser.push(chunk)
      } catch (error) {
        if (!(error instanceof NbdError)) throw error
        fail(error)
      }
    })
    stream.onEnd(() => fail(new NbdError('nbd-lost', 'the server ended the connection in the handshake', stream.peer)))
    stream.onClose(error => {
      const why = error === null ? 'the connection was closed in the handshake' : errorMessage(error)
      linger?.cancel()
      if (!settled) fail(new NbdError('nbd-lost', why, stream.peer, error ?? undefined))
    })
    if (options.signal?.aborted === true) onAbort()
    else {
      options.signal?.addEventListener('abort', onAbort)
      handshake.start()
    }
  })
}

export class NbdClient implements BlockDevice, ReplyHost {
  readonly size: number
  readonly limits: Limits
  readonly caps: Caps
  readonly exportName: string
  readonly peer: string
  readonly structured: boolean
  /** Why the connection ended; null while it lives. */
  error: NbdError | null = null
  readonly blockStatus?: (offset: number, length: number, io: Io) => Promise<BlockExtent[]>
  readonly #stream: ByteStream
  readonly #parser: StreamParser
  readonly #timers: Timers | null
  readonly #outbox: Outbox
  readonly #pending = new PendingTable(MAX_PENDING_REQUESTS)
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  #state: 'open' | 'closing' | 'closed' = 'open'
  #closed: Promise<void> | null = null
  #onIdle: (() => void) | null = null
  #linger: Timer | null = null

  /** Made by `connectNbd`. */
  constructor(stream: ByteStream, parser: StreamParser, facts: ExportFacts, options: ConnectNbdOptions) {
    this.#stream = stream
    this.#parser = parser
    this.#timers = options.timers ?? null
    this.#outbox = new Outbox(stream)
    this.size = facts.size
    this.limits = facts.limits
    this.caps = facts.caps
    this.structured = facts.structured
    this.exportName = options.exportName
    this.peer = stream.peer
    if (facts.allocationContext !== null) {
      this.blockStatus = (offset, length, io) => this.#blockStatus(offset, length, io)
    }
    const reader = new ReplyReader(parser, this.#pending, facts, this)
    reader.start()
    stream.onData(chunk => this.#onData(chunk))
    stream.onDrain(() => this.#outbox.drained())
    stream.onEnd(() => this.#end(new NbdError('nbd-lost', 'the server ended the connection', this.peer)))
    stream.onClose(error => {
      this.#linger?.cancel()
      const why = error === null ? 'the connection was closed' : errorMessage(error)
      this.#end(new NbdError('nbd-lost', why, this.peer, error ?? undefined))
    })
  }

  /** Requests sent and not yet answered. */
  get inFlight(): number {
    return this.#pending.size
  }

  read(offset: number, length: number, _io: Io): Promise<Uint8Array[]> {
    return new Promise((resolve, reject) => {
      if (length === 0 && this.#state === 'open') resolve([])
      else this.#send(CMD_READ, 0, offset, length, null, resolve as (value: unknown) => void, reject)
    })
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, _io: Io): Promise<void> {
    return new Promise((resolve, reject) => {
      const bits = flags.fua === true ? CMD_FLAG_FUA : 0
      const length = totalLength(data)
      if (length === 0 && this.#state === 'open') resolve()
      else this.#send(CMD_WRITE, bits, offset, length, data, resolve as (value: unknown) => void, reject)
    })
  }

  flush(_io: Io): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#send(CMD_FLUSH, 0, 0, 0, null, resolve as (value: unknown) => void, reject)
    })
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    _io: Io,
  ): Promise<void> {
    const bits =
      (flags.fua === true ? CMD_FLAG_FUA : 0) |
      (flags.noHole === true ? CMD_FLAG_NO_HOLE : 0) |
      (flags.fast === true ? CMD_FLAG_FAST_ZERO : 0)
    return this.#range(CMD_WRITE_ZEROES, bits, offset, length)
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, _io: Io): Promise<void> {
    return this.#range(CMD_TRIM, flags.fua === true ? CMD_FLAG_FUA : 0, offset, length)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** Drops the connection at once; what is in flight rejects. */
  abort(reason: string): void {
    this.#end(new NbdError('nbd-cancelled', reason, this.peer))
  }

  async #close(): Promise<void> {
    if (this.#state === 'closed') return
    this.#state = 'closing'
    if (this.#pending.size > 0) {
      await new Promise<void>(resolve => {
        this.#onIdle = resolve
      })
    }
    // `idle` may also have come from a connection lost meanwhile.
    if (this.error !== null) return
    this.#request(CMD_DISC, 0, 0, 0, 0, 0)
    this.#outbox.flush()
    this.#stream.end()
    this.#finish(new NbdError('nbd-cancelled', 'closed in order', this.peer))
    this.#linger = this.#timers?.after(DISCONNECT_LINGER_MS, () => this.#stream.destroy()) ?? null
  }

  #range(type: number, flags: number, offset: number, length: number): Promise<void> {
    if (length <= MAX_RANGE_BYTES) {
      return new Promise((resolve, reject) => {
        if (length === 0 && this.#state === 'open') resolve()
        else this.#send(type, flags, offset, length, null, resolve as (value: unknown) => void, reject)
      })
    }
    return this.#longRange(type, flags, offset, length)
  }

  /** One after the other, so that a range of terabytes is no burst; a later piece's failure leaves the former done. */
  async #longRange(type: number, flags: number, offset: number, length: number): Promise<void> {
    this.#check(offset, length)
    for (let done = 0; done < length; ) {
      const piece = Math.min(length - done, MAX_RANGE_BYTES)
      try {
        await this.#range(type, flags, offset + done, piece)
      } catch (error) {
        if (done === 0 || !(error instanceof BlockError) || error.outcome !== 'none') throw error
        throw new BlockError(error.errno, 'partial', error.message, { cause: error })
      }
      done += piece
    }
  }

  #blockStatus(offset: number, length: number, _io: Io): Promise<BlockExtent[]> {
    return new Promise((resolve, reject) => {
      const piece = Math.min(length, MAX_RANGE_BYTES)
      this.#send(CMD_BLOCK_STATUS, 0, offset, piece, null, resolve as (value: unknown) => void, reject)
    })
  }

  #send(
    type: number,
    flags: number,
    offset: number,
    length: number,
    data: readonly Uint8Array[] | null,
    resolve: (value: unknown) => void,
    reject: (error: Error) => void,
  ): void {
    this.#admit(type, flags, offset, length)
    const pending: Pending = { type, offset, length, resolve, reject, error: null, chunks: null, parts: null, got: 0 }
    const slot = this.#pending.add(pending)
    this.#request(type, flags, this.#pending.generation(slot), slot, offset, length)
    if (data !== null) this.#outbox.append(data)
  }

  /** Throws what a request can be refused for without asking the server. */
  #admit(type: number, flags: number, offset: number, length: number): void {
    if (this.#state !== 'open') throw this.#refuse('ESHUTDOWN', this.error?.message ?? 'the device is being closed')
    const { caps, limits } = this
    if (type !== CMD_FLUSH) this.#check(offset, length)
    const transfer = type === CMD_READ || type === CMD_WRITE
    if (transfer && length > limits.maximum) {
      throw this.#refuse('EINVAL', `${length} bytes are more than the maximum of ${limits.maximum}`)
    }
    const mutating = type === CMD_WRITE || type === CMD_TRIM || type === CMD_WRITE_ZEROES
    if (mutating && caps.readOnly) throw this.#refuse('EPERM', 'the export is read-only')
    const missing =
      (type === CMD_FLUSH && !caps.flush) ||
      (type === CMD_TRIM && !caps.trim) ||
      (type === CMD_WRITE_ZEROES && !caps.zero) ||
      ((flags & CMD_FLAG_FUA) !== 0 && !caps.fua) ||
      ((flags & CMD_FLAG_FAST_ZERO) !== 0 && !caps.fastZero)
    if (missing) throw this.#refuse('ENOTSUP', `the server does not offer command ${type} with flags ${flags}`)
    if (this.#pending.full) {
      throw this.#refuse('ENOMEM', `more than ${MAX_PENDING_REQUESTS} requests wait for the server`)
    }
  }

  #check(offset: number, length: number): void {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw this.#refuse('EINVAL', `${length} bytes at ${offset} is no range`)
    }
    if (length > this.size - offset) {
      throw this.#refuse('EINVAL', `${length} bytes at ${offset} reach past the end at ${this.size}`)
    }
    const { minimum } = this.limits
    if (minimum > 1 && (offset % minimum !== 0 || length % minimum !== 0)) {
      throw this.#refuse('EINVAL', `${length} bytes at ${offset} are not aligned to ${minimum}`)
    }
  }

  #refuse(errno: BlockErrno, message: string): BlockError {
    return new BlockError(errno, 'none', message, { where: `${this.exportName} at ${this.peer}` })
  }

  #request(type: number, flags: number, cookieHi: number, cookieLo: number, offset: number, length: number): void {
    const at = this.#outbox.reserve(REQUEST_BYTES)
    const slab = this.#outbox.slab
    writeU32(slab, at, MAGIC_REQUEST)
    writeU16(slab, at + 4, flags)
    writeU16(slab, at + 6, type)
    writeU32(slab, at + 8, cookieHi)
    writeU32(slab, at + 12, cookieLo)
    writeU64(slab, at + 16, offset)
    writeU32(slab, at + 24, length)
  }

  #onData(chunk: Uint8Array): void {
    try {
      this.#parser.push(chunk)
    } catch (error) {
      if (!(error instanceof NbdError)) throw error
      this.#end(error)
    }
  }

  /** The reply reader's host: a request was answered and is no longer in flight. */
  settled(): void {
    if (this.#pending.size === 0) this.#onIdle?.()
  }

  /** The connection is over and not in order. */
  #end(error: NbdError): void {
    if (this.#state === 'closed') return
    this.#outbox.kill()
    this.#stream.destroy()
    this.#finish(error)
    this.#onIdle?.()
  }

  #finish(error: NbdError): void {
    assert(this.error === null, 'a connection ends once')
    this.#state = 'closed'
    this.error = error
    this.#parser.discard()
    const where = `${this.exportName} at ${this.peer}`
    for (const pending of this.#pending.takeAll()) {
      const outcome = pending.type === CMD_READ || pending.type === CMD_BLOCK_STATUS ? 'none' : 'unknown'
      const message = `the connection ended before the answer: ${error.message}`
      pending.reject(new BlockError('ESHUTDOWN', outcome, message, { where, cause: error }))
    }
    for (const listener of this.#listeners) listener('closed', error.message)
  }
}
