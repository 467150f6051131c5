// How long a link takes for a byte, measured from one moment at which it asked for more to the next: what was written between them has
// left in between, however much the link's window holds. A single write's time says nothing: a window takes many in no time, and then
// none for as long as all of them need.

import { MIB } from '@stellwerk/runtime/units.ts'

/** Each time the link asks, what was measured before counts so much less: some 20 MiB are remembered where 1 MiB is asked for. */
const DECAY = 0.95
/** Before so much was written, or for so long, nothing is known: the first MiBs only fill the buffers on the way. */
const KNOWN_BYTES = 10 * MIB
const KNOWN_MS = 1_000
/** Of the time the link has to be full for so much: otherwise it was not the link that took it. */
const FULL_SHARE = 0.15
/** A link that was not full for so much is faster than what is written: nothing is known of it any more. */
const FORGOTTEN_BYTES = 64 * MIB

export class LinkPace {
  /** Decayed sums. */
  #bytes = 0
  #ms = 0
  #allBytes = 0
  #allMs = 0
  #fullMs = 0
  #lastMsPerByte = 0
  /** Written since the link was last full. */
  #unaskedBytes = 0
  /** Since it last asked. */
  #since: { at: number; bytes: number; fullAt: number | null } | null = null

  /** 0: not known, or too fast to be ever full. */
  get msPerByte(): number {
    return this.#isYoung || this.#fullMs < this.#ms * FULL_SHARE ? 0 : this.#ms / this.#bytes
  }

  /** What it was when it was last known; 0: never, or the link has become too fast to be ever full. */
  get lastMsPerByte(): number {
    return this.#lastMsPerByte
  }

  /** `fullAt`: the link takes no more since then; null: it does. */
  written(bytes: number, fullAt: number | null): void {
    this.#unaskedBytes += bytes
    if (this.#since !== null) {
      this.#since.bytes += bytes
      this.#since.fullAt = fullAt
    }
    if (this.#unaskedBytes <= FORGOTTEN_BYTES) return
    this.measureAnew()
    this.#lastMsPerByte = 0
  }

  /** The link was full and asks for more. */
  drained(now: number): void {
    if (this.#since !== null) {
      const { at, bytes, fullAt } = this.#since
      this.#allBytes += bytes
      this.#allMs += now - at
      this.#bytes = this.#bytes * DECAY + bytes
      this.#ms = this.#ms * DECAY + now - at
      this.#fullMs = this.#fullMs * DECAY + now - (fullAt ?? now)
    }
    this.#since = { at: now, bytes: 0, fullAt: null }
    this.#unaskedBytes = 0
    if (!this.#isYoung) this.#lastMsPerByte = this.msPerByte
  }

  get #isYoung(): boolean {
    return this.#allBytes < KNOWN_BYTES && this.#allMs < KNOWN_MS
  }

  measureAnew(): void {
    this.#allBytes = 0
    this.#allMs = 0
    this.#bytes = 0
    this.#ms = 0
    this.#fullMs = 0
    this.#since = null
  }
}
