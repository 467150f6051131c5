// Cuts a stream of arbitrary chunks into what its owner says comes next: fixed-size headers (contiguous) and payloads
// (scattered views of the chunks, never joined). It knows no protocol; a handler states the next expectation.

import { assert } from '@stellwerk/runtime/assert.ts'
import { NbdError } from './wire.ts'

export type HeaderHandler = (bytes: Uint8Array, at: number) => void
export type PayloadHandler = (parts: Uint8Array[]) => void

/** The longest header; a header that spans chunks is gathered in a buffer of this size. */
export const MAX_HEADER_BYTES = 32
/** While held, a paused stream delivers what it had under way and no more. */
export const MAX_HELD_CHUNKS = 64

const IDLE = 0
const HEADER = 1
const PAYLOAD = 2
const SKIP = 3

const EMPTY = new Uint8Array(0)

/**
 * Handlers run inside `push` or `release` and may throw: the error passes to that caller, and the parser then discards
 * everything. With no expectation stated (after `discard`), input is dropped.
 */
export class StreamParser {
  #mode = IDLE
  #want = 0
  #gathered = 0
  #onHeader: HeaderHandler = () => undefined
  #onPayload: PayloadHandler = () => undefined
  #onSkipped: () => void = () => undefined
  #parts: Uint8Array[] = []
  #chunk: Uint8Array = EMPTY
  #at = 0
  #queue: Uint8Array[] = []
  #held = false
  #running = false
  readonly #scratch = new Uint8Array(MAX_HEADER_BYTES)

  /** Next: `length` bytes in one piece. */
  header(length: number, handler: HeaderHandler): void {
    assert(length > 0 && length <= MAX_HEADER_BYTES, `header of ${length} bytes`)
    this.#mode = HEADER
    this.#want = length
    this.#gathered = 0
    this.#onHeader = handler
  }

  /** Next: `length` bytes as views of the chunks they came in. */
  payload(length: number, handler: PayloadHandler): void {
    this.#mode = PAYLOAD
    this.#want = length
    this.#parts = []
    this.#onPayload = handler
  }

  /** Next: `length` bytes nobody wants. */
  skip(length: number, handler: () => void): void {
    this.#mode = SKIP
    this.#want = length
    this.#onSkipped = handler
  }

  /** Drops what is left and all that will come. */
  discard(): void {
    this.#mode = IDLE
    this.#chunk = EMPTY
    this.#at = 0
    this.#queue = []
    this.#parts = []
  }

  /** Stops calling handlers until `release`; the owner pauses the stream as well. */
  hold(): void {
    this.#held = true
  }

  release(): void {
    if (!this.#held) return
    this.#held = false
    this.#run()
  }

  get held(): boolean {
    return this.#held
  }

  /** True between messages' parts: the stream must not end here. */
  get midway(): boolean {
    return this.#gathered > 0 || (this.#mode === PAYLOAD && this.#parts.length > 0) || this.#mode === SKIP
  }

  push(chunk: Uint8Array): void {
    if (this.#at < this.#chunk.length || this.#running || this.#queue.length > 0) {
      if (this.#queue.length >= MAX_HELD_CHUNKS) {
        throw new NbdError('nbd-limit', `more than ${MAX_HELD_CHUNKS} chunks arrived while reading is paused`, 'stream')
      }
      this.#queue.push(chunk)
    } else {
      this.#chunk = chunk
      this.#at = 0
    }
    this.#run()
  }

  #run(): void {
    if (this.#running) return
    this.#running = true
    try {
      while (!this.#held && this.#step());
    } catch (error) {
      this.discard()
      throw error
    } finally {
      this.#running = false
    }
  }

  /** One expectation's progress; false when more input is needed. */
  #step(): boolean {
    if (this.#mode === IDLE) {
      this.#chunk = EMPTY
      this.#at = 0
      this.#queue = []
      return false
    }
    const chunk = this.#chunk
    const at = this.#at
    const available = chunk.length - at
    if (this.#mode === HEADER && this.#gathered === 0 && available >= this.#want) {
      this.#at = at + this.#want
      this.#mode = IDLE
      this.#onHeader(chunk, at)
      return true
    }
    if (available === 0 && !(this.#want === 0 && this.#mode !== HEADER)) return this.#nextChunk()
    if (this.#mode === HEADER) this.#gather(available)
    else this.#consume(available)
    return true
  }

  #gather(available: number): void {
    const take = Math.min(available, this.#want - this.#gathered)
    this.#scratch.set(this.#chunk.subarray(this.#at, this.#at + take), this.#gathered)
    this.#gathered += take
    this.#at += take
    if (this.#gathered < this.#want) return
    this.#gathered = 0
    this.#mode = IDLE
    this.#onHeader(this.#scratch, 0)
  }

  #consume(available: number): void {
    const take = Math.min(available, this.#want)
    if (take > 0 && this.#mode === PAYLOAD) this.#parts.push(this.#chunk.subarray(this.#at, this.#at + take))
    this.#at += take
    this.#want -= take
    if (this.#want > 0) return
    const wasPayload = this.#mode === PAYLOAD
    this.#mode = IDLE
    if (!wasPayload) {
      this.#onSkipped()
      return
    }
    const parts = this.#parts
    this.#parts = []
    this.#onPayload(parts)
  }

  #nextChunk(): boolean {
    const next = this.#queue.shift()
    this.#chunk = next ?? EMPTY
    this.#at = 0
    return next !== undefined
  }
}
