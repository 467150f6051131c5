// Passes QEMU's migration stream on, in pieces as large as have come together, compressed where that makes it faster: nothing of
// a guest's memory waits for more to come, and what comes while the link is busy makes a piece worth compressing.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterPiece, INITIAL_COMPRESSION, type SentPiece, shouldCompress } from '../precopy/compression.ts'
import { StreamEncoder } from './stream-format.ts'

/** A piece is closed once it has so much, and QEMU waits while so much is there. */
export const PIECE_BYTES = MIB
/** Smaller ones are not worth the thread pool. */
const PACK_LEAST_BYTES = 64 * 1024

type Env = Pick<Environment, 'clock' | 'compute'>

export class StreamSender {
  readonly #env: Env
  readonly #writer: ByteStream
  readonly #encoder = new StreamEncoder()
  readonly #onSpace: () => void
  #waiting: Uint8Array[] = []
  #waitingBytes = 0
  #isFull = false
  #isSending = false
  #isDiscarding = false
  #compression = INITIAL_COMPRESSION
  /** The stream takes no more yet. */
  #busy: PromiseWithResolvers<void> | null = null
  #idle: () => void = () => undefined

  /** `onSpace`: more may be taken, after `take` has said no. */
  constructor(env: Env, writer: ByteStream, onSpace: () => void) {
    this.#env = env
    this.#writer = writer
    this.#onSpace = onSpace
    writer.onDrain(() => this.#busy?.resolve())
  }

  /** Of everything that was sent. */
  get checksum(): number {
    return this.#encoder.checksum
  }

  /** False: no more, please, until there is space again. */
  take(chunk: Uint8Array): boolean {
    if (this.#isDiscarding) return true
    this.#waiting.push(chunk)
    this.#waitingBytes += chunk.length
    if (!this.#isSending) void this.#send()
    this.#isFull = this.#waitingBytes >= PIECE_BYTES
    return !this.#isFull
  }

  /** Nothing more is passed on, and all is taken. */
  discard(): void {
    this.#isDiscarding = true
    this.#waiting = []
    this.#waitingBytes = 0
    this.#space()
  }

  /** All that was taken has gone into the stream. */
  async idle(): Promise<void> {
    if (!this.#isSending) return
    await new Promise<void>(resolve => {
      this.#idle = resolve
    })
  }

  /** Behind everything: of an idle one. */
  end(trailer: Json): void {
    assert(!this.#isSending && !this.#isDiscarding, 'the end stands behind everything')
    this.#writer.write(this.#encoder.end(trailer))
    this.#writer.end()
  }

  async #send(): Promise<void> {
    this.#isSending = true
    while (this.#waitingBytes > 0) {
      if (this.#busy !== null) await this.#busy.promise
      const data = this.#piece()
      const rawBytes = data.reduce((sum, part) => sum + part.length, 0)
      const tried = await this.#packed(data, rawBytes)
      // What was thrown away meanwhile is not half sent.
      if (this.#isDiscarding || rawBytes === 0) break
      const packed = tried !== null && tried.packed.length < rawBytes ? tried.packed : null
      this.#write(this.#encoder.piece(data, packed), {
        rawBytes,
        packMs: tried?.ms ?? null,
        packedBytes: tried?.packed.length ?? rawBytes,
      })
    }
    this.#isSending = false
    this.#idle()
  }

  #write(parts: readonly Uint8Array[], piece: Omit<SentPiece, 'wireBytes' | 'sendMs'>): void {
    const wireBytes = parts.reduce((sum, part) => sum + part.length, 0)
    const before = this.#env.clock.now()
    const sent = (): void => {
      this.#busy = null
      // Small ones tell nothing.
      if (piece.rawBytes < PACK_LEAST_BYTES) return
      const sendMs = this.#env.clock.now() - before
      this.#compression = afterPiece(this.#compression, { ...piece, wireBytes, sendMs })
    }
    if (this.#writer.write(parts)) sent()
    else {
      this.#busy = Promise.withResolvers()
      void this.#busy.promise.then(sent)
    }
  }

  #piece(): Uint8Array[] {
    const data: Uint8Array[] = []
    let bytes = 0
    for (let next = this.#waiting[0]; next !== undefined && bytes < PIECE_BYTES; next = this.#waiting[0]) {
      const part = next.subarray(0, PIECE_BYTES - bytes)
      data.push(part)
      bytes += part.length
      if (part.length < next.length) this.#waiting[0] = next.subarray(part.length)
      else this.#waiting.shift()
    }
    this.#waitingBytes -= bytes
    this.#space()
    return data
  }

  #space(): void {
    if (!this.#isFull || this.#waitingBytes >= PIECE_BYTES) return
    this.#isFull = false
    this.#onSpace()
  }

  /** Null: it was not tried, or could not be. */
  async #packed(
    data: readonly Uint8Array[],
    length: number,
  ): Promise<{ readonly packed: Uint8Array; readonly ms: number } | null> {
    if (length < PACK_LEAST_BYTES || !shouldCompress(this.#compression)) return null
    const before = this.#env.clock.now()
    const whole = data.length === 1 ? data[0]! : Buffer.concat(data)
    // A pool that has no room, or fails, is no reason to give a migration up: it goes as it is.
    const packed = await this.#env.compute.compress(whole).catch(() => null)
    return packed === null ? null : { packed, ms: this.#env.clock.now() - before }
  }
}
