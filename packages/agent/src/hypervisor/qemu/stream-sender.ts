// Passes QEMU's migration stream on, in pieces as large as have come together: nothing of a guest's memory waits for more to come.
// While the link takes one piece the next is made ready, compressed where that pays; while that is compressed, one more; no more.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { CompressionChoice, type Kind } from '../precopy/compression.ts'
import { StreamEncoder } from './stream-format.ts'

/** A piece is closed once it has so much, and QEMU waits while so much is there: what is compressed is so in large pieces. */
export const PIECE_BYTES = MIB
/** Where nothing is, QEMU waits sooner: all that lies here stands before the end of the stream, for which the guest stands still. */
export const PLAIN_PIECE_BYTES = 256 * KIB
/** With each piece those before count so much less for what the stream shrinks to now. */
const SHARE_DECAY = 0.9
/** Smaller ones are not worth the thread pool. */
const PACK_LEAST_BYTES = 64 * KIB

type Env = Pick<Environment, 'clock' | 'compute'>

interface NextPiece {
  readonly data: readonly Uint8Array[]
  readonly rawBytes: number
  /** When it was begun. */
  readonly since: number
  /** Null: it goes as it is. Undefined: it is being compressed. */
  packed: Uint8Array | null | undefined
}

export class StreamSender {
  readonly #env: Env
  readonly #writer: ByteStream
  readonly #encoder = new StreamEncoder()
  readonly #compression = new CompressionChoice()
  readonly #onSpace: () => void
  #waiting: Uint8Array[] = []
  #waitingBytes = 0
  #isFull = false
  #isDiscarding = false
  #next: NextPiece[] = []
  /** It has filled the link, which takes no more yet. */
  #untaken: NextPiece | null = null
  /** When the link last took one. */
  #takenAt = 0
  /** Decayed sums of what was sent. */
  #sent = { rawBytes: 0, wireBytes: 0 }
  #idle: (() => void)[] = []

  /** `onSpace`: more may be taken, after `take` has said no. */
  constructor(env: Env, writer: ByteStream, onSpace: () => void) {
    this.#env = env
    this.#writer = writer
    this.#onSpace = onSpace
    writer.onDrain(() => {
      if (this.#untaken === null) return
      this.#compression.drained(env.clock.now())
      this.#taken(this.#untaken)
      this.#pump()
    })
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
    this.#pump()
    this.#isFull = this.#waitingBytes >= this.#pieceBytes
    return !this.#isFull
  }

  /** What the last pieces have shrunk to, as a share of them. */
  get shrinksTo(): number {
    return this.#sent.rawBytes === 0 ? 1 : this.#sent.wireBytes / this.#sent.rawBytes
  }

  /** ms that the link takes for what lies here, and for so many bytes more; 0 where it is not known. */
  linkMs(moreBytes: number): number {
    const nextBytes = this.#next.reduce((sum, { rawBytes, packed }) => sum + (packed?.length ?? rawBytes), 0)
    const bytes = nextBytes + this.#writer.bufferedBytes + this.#waitingBytes + moreBytes
    return bytes * this.#compression.linkMsPerByte
  }

  /** Nothing more is passed on, and all is taken. */
  discard(): void {
    this.#isDiscarding = true
    this.#waiting = []
    this.#waitingBytes = 0
    this.#next = []
    this.#space()
    this.#tellIdle()
  }

  /** All that was taken has gone into the stream. */
  async idle(): Promise<void> {
    if (this.#isIdle) return
    await new Promise<void>(resolve => this.#idle.push(resolve))
  }

  /** Behind everything: of an idle one. */
  end(trailer: Json): void {
    assert(this.#isIdle && !this.#isDiscarding, 'the end stands behind everything')
    this.#writer.write(this.#encoder.end(trailer))
    this.#writer.end()
  }

  get #isIdle(): boolean {
    return this.#next.length === 0 && this.#waitingBytes === 0
  }

  #tellIdle(): void {
    const idle = this.#idle
    this.#idle = []
    for (const tell of idle) tell()
  }

  get #pieceBytes(): number {
    return this.#compression.isTried ? PIECE_BYTES : PLAIN_PIECE_BYTES
  }

  #pump(): void {
    for (;;) {
      this.#sendReady()
      // It may bring more at once, which stands behind all that was begun.
      this.#space()
      if (!this.#isWorthBeginning) return
      this.#begin()
    }
  }

  /** What is before it is worth waiting for a whole piece; what an idle link could take at once is not held back. */
  get #isWorthBeginning(): boolean {
    const [first, second] = this.#next
    if (first === undefined && this.#untaken === null) return this.#waitingBytes > 0
    const isAhead = first !== undefined && first.packed !== undefined
    return second === undefined && !isAhead && this.#waitingBytes >= this.#pieceBytes
  }

  #sendReady(): void {
    for (let first = this.#next[0]; first?.packed !== undefined && this.#untaken === null; first = this.#next[0]) {
      this.#next.shift()
      this.#write(first, first.packed)
      if (this.#isIdle) this.#tellIdle()
    }
  }

  #begin(): void {
    const [data, rawBytes] = this.#piece()
    const next: NextPiece = { data, rawBytes, since: this.#env.clock.now(), packed: null }
    this.#next.push(next)
    const kind = rawBytes < PACK_LEAST_BYTES ? null : this.#compression.choose(data)
    if (kind !== null) this.#compress(next, kind)
  }

  #compress(next: NextPiece, kind: Kind): void {
    const { data, rawBytes, since } = next
    next.packed = undefined
    const done = (packed: Uint8Array | null): void => {
      // What was thrown away meanwhile is not half sent.
      if (this.#isDiscarding) return
      if (packed !== null) this.#compression.packed(kind, rawBytes, this.#env.clock.now() - since)
      next.packed = packed !== null && packed.length < rawBytes ? packed : null
      this.#pump()
    }
    const whole = data.length === 1 ? data[0]! : Buffer.concat(data)
    // A pool that has no room, or fails, is no reason to give a migration up: it goes as it is.
    this.#env.compute.compress(whole).then(done, () => done(null))
  }

  #write(piece: NextPiece, packed: Uint8Array | null): void {
    const parts = this.#encoder.piece(piece.data, packed)
    const takesMore = this.#writer.write(parts)
    const wireBytes = packed?.length ?? piece.rawBytes
    this.#sent = {
      rawBytes: this.#sent.rawBytes * SHARE_DECAY + piece.rawBytes,
      wireBytes: this.#sent.wireBytes * SHARE_DECAY + wireBytes,
    }
    this.#compression.written(wireBytes, takesMore ? null : this.#env.clock.now())
    if (takesMore) this.#taken(piece)
    else this.#untaken = piece
  }

  #taken({ rawBytes, since }: NextPiece): void {
    const now = this.#env.clock.now()
    this.#compression.taken(rawBytes, now - Math.max(since, this.#takenAt))
    this.#takenAt = now
    this.#untaken = null
  }

  /** And how long it is. */
  #piece(): [Uint8Array[], number] {
    const data: Uint8Array[] = []
    let bytes = 0
    const most = this.#pieceBytes
    for (let next = this.#waiting[0]; next !== undefined && bytes < most; next = this.#waiting[0]) {
      const part = next.subarray(0, most - bytes)
      data.push(part)
      bytes += part.length
      if (part.length < next.length) this.#waiting[0] = next.subarray(part.length)
      else this.#waiting.shift()
    }
    this.#waitingBytes -= bytes
    return [data, bytes]
  }

  #space(): void {
    if (!this.#isFull || this.#waitingBytes >= this.#pieceBytes) return
    this.#isFull = false
    this.#onSpace()
  }
}
