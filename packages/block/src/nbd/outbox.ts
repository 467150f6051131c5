// Gathers what one connection sends within a tick and hands it to the stream in one write. Headers are carved out of a
// slab, neighbours become one part; bulk data is passed by reference.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'

/** Headers are carved from slabs of this size; a slab is garbage once its last header is sent. */
const SLAB_BYTES = 16 * 1024
/** The flush waits while replies keep coming in, but for no more than this many turns of the microtask queue. */
const MAX_FLUSH_TURNS = 4
/** A part at most this long is copied beside its header: cheaper than one more entry in a gathering write. */
const COPIED_BYTES = 256

export class Outbox {
  readonly #stream: ByteStream
  #slab = new Uint8Array(SLAB_BYTES)
  /** The slab's bytes from `#runStart` to `#runEnd` are headers not yet made a part. */
  #runStart = 0
  #runEnd = 0
  #parts: Uint8Array[] = []
  #turns = 0
  #added = false
  #armed = false
  #dead = false
  #blocked = false
  readonly #turn = (): void => this.#onTurn()

  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  /** The stream is above its high water; `drained` says when it no longer is. */
  get blocked(): boolean {
    return this.#blocked
  }

  drained(): void {
    this.#blocked = false
  }

  /** `length` (≤ slab) writable bytes of `slab` from the returned index on; fill them before the next call. */
  reserve(length: number): number {
    if (this.#runEnd + length > SLAB_BYTES) {
      this.#closeRun()
      this.#slab = new Uint8Array(Math.max(SLAB_BYTES, length))
      this.#runStart = 0
      this.#runEnd = 0
    }
    const at = this.#runEnd
    this.#runEnd = at + length
    this.#arm()
    return at
  }

  get slab(): Uint8Array {
    return this.#slab
  }

  /** Sends `parts` as they are; they must not change until they are sent. */
  append(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      if (part.length === 0) continue
      if (part.length <= COPIED_BYTES) {
        const at = this.reserve(part.length)
        this.#slab.set(part, at)
        continue
      }
      this.#closeRun()
      this.#parts.push(part)
    }
    this.#arm()
  }

  /** Hands everything over now. */
  flush(): void {
    this.#closeRun()
    if (this.#parts.length === 0 || this.#dead) return
    const parts = this.#parts
    this.#parts = []
    if (!this.#stream.write(parts)) this.#blocked = true
  }

  /** Nothing is sent any more. */
  kill(): void {
    this.#dead = true
    this.#parts = []
    this.#runStart = this.#runEnd
  }

  #closeRun(): void {
    if (this.#runEnd === this.#runStart) return
    this.#parts.push(this.#slab.subarray(this.#runStart, this.#runEnd))
    this.#runStart = this.#runEnd
  }

  #arm(): void {
    this.#added = true
    if (this.#armed || this.#dead) return
    this.#armed = true
    this.#turns = 0
    this.#added = false
    queueMicrotask(this.#turn)
  }

  /** Requests answered in the same tick by layers of different depth still share a write. */
  #onTurn(): void {
    if (this.#added && this.#turns < MAX_FLUSH_TURNS) {
      this.#turns += 1
      this.#added = false
      queueMicrotask(this.#turn)
      return
    }
    this.#armed = false
    this.flush()
  }
}
