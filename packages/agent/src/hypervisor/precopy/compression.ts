// Whether a stream's next piece is compressed: by the pace of the link, by what a sample of the piece shrinks to, and by what has come of
// it so far. A guest's memory is of two kinds: pages that compress to next to nothing in next to no time, and dense ones that cost a
// thread as long as some links take to carry them. Of these as many are compressed as the link hides behind what it has to carry
// before, so that neither the link nor the thread waits for the other. And what looks like a slow link may be a target, or a source, whose processors
// have too much to do already; only that all of it goes faster with compressing than without tells the one from the other.

import { LINK_WINDOW_BYTES } from '@stellwerk/runtime/credited-link.ts'
import { totalLength } from '@stellwerk/runtime/parts.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { LinkPace } from './link-pace.ts'
import { sampleRatio } from './sample.ts'

/** For a link of more than some 1.4 Gbit/s nothing is compressed. */
const LINK_LEAST_MS_PER_BYTE = 6 / MIB
/** A sample that shrinks to less is not dense; one that does not even to so much is not worth a try. */
const DENSE_RATIO = 0.25
const HOPELESS_RATIO = 0.85
/** What a slow processor takes to compress a dense piece, until it was measured. */
const DENSE_GUESS_MS_PER_BYTE = 6 / MIB
/** The middle one of the last so many is what it takes: single ones wait for a thread. */
const DENSE_KEPT = 5

/**
 * With compressing, so much in no less than so long must not take longer than the link took for it before, but for what measurements
 * differ by. If it does, and the link measured anew has not become slower by itself, compressing is to blame.
 */
const TRIAL_BYTES = 32 * MIB
const TRIAL_LEAST_MS = 50
const TRIAL_SHARE = 1.15
/** Then all goes as it is for so much. */
const REST_BYTES = 512 * MIB
/** Links change, and processes warm up: after so much the link is measured anew, without compressing. */
const REMEASURE_BYTES = 128 * MIB

export type Kind = 'light' | 'dense'

interface Trial {
  /** What the link took for a byte before. */
  readonly plainMsPerByte: number
  rawBytes: number
  ms: number
  allBytes: number
}

export class CompressionChoice {
  readonly #pace = new LinkPace()
  #trial: Trial | null = null
  /** What the link took for a byte before a trial that was slower; it is being measured anew. */
  #suspectMsPerByte: number | null = null
  #restBytes = 0
  /** ms per byte of the last dense pieces. */
  #dense: number[] = []
  /** ms that the link has to carry before the next piece, by all that was chosen. */
  #aheadMs = 0

  /** As last measured; 0: never, or too fast to be ever full. */
  get linkMsPerByte(): number {
    return this.#pace.lastMsPerByte
  }

  /** The link is so slow that compressing may pay. */
  get isTried(): boolean {
    return this.#restBytes === 0 && this.#pace.msPerByte >= LINK_LEAST_MS_PER_BYTE
  }

  /** How the piece compresses, if it is to be compressed. */
  choose(piece: readonly Uint8Array[]): Kind | null {
    if (!this.isTried) {
      this.#trial = null
      return null
    }
    if (this.#blames()) return null
    this.#trial ??= { plainMsPerByte: this.#pace.msPerByte, rawBytes: 0, ms: 0, allBytes: 0 }
    const ratio = sampleRatio(piece)
    if (ratio < DENSE_RATIO) return 'light'
    const bytes = totalLength(piece)
    const linkMs = bytes * this.#pace.msPerByte
    // What lies in a full window before a piece: a thread that takes no longer than that keeps nobody waiting.
    const mostMs = LINK_WINDOW_BYTES.bulk * this.#pace.msPerByte
    const waitMs = bytes * middle(this.#dense, DENSE_GUESS_MS_PER_BYTE) - ratio * linkMs
    const packs = ratio < HOPELESS_RATIO && waitMs <= this.#aheadMs
    this.#aheadMs = Math.max(0, Math.min(mostMs, this.#aheadMs + (packs ? -waitMs : linkMs)))
    return packs ? 'dense' : null
  }

  /** `ms`: from asking for it to having it. */
  packed(kind: Kind, rawBytes: number, ms: number): void {
    if (kind === 'light') this.#aheadMs = Math.max(0, this.#aheadMs - ms)
    else this.#dense = [...this.#dense, ms / rawBytes].slice(-DENSE_KEPT)
  }

  /** `fullAt`: the link takes no more since then; null: it does. */
  written(wireBytes: number, fullAt: number | null): void {
    this.#pace.written(wireBytes, fullAt)
  }

  /** The link was full and asks for more. */
  drained(now: number): void {
    this.#pace.drained(now)
  }

  /** The link takes more after a piece. `ms`: from when it was begun, or the one before was taken. */
  taken(rawBytes: number, ms: number): void {
    this.#restBytes = Math.max(0, this.#restBytes - rawBytes)
    if (this.#trial !== null) this.#judge(this.#trial, rawBytes, ms)
  }

  /** After a trial that was slower, once the link is known again: whether compressing was the reason. Then it rests. */
  #blames(): boolean {
    const before = this.#suspectMsPerByte
    this.#suspectMsPerByte = null
    if (before === null || this.#pace.msPerByte > before * TRIAL_SHARE) return false
    this.#restBytes = REST_BYTES
    return true
  }

  #judge(trial: Trial, rawBytes: number, ms: number): void {
    trial.rawBytes += rawBytes
    trial.allBytes += rawBytes
    trial.ms += ms
    if (trial.rawBytes < TRIAL_BYTES || trial.ms < TRIAL_LEAST_MS) return
    const isSlower = trial.ms / trial.rawBytes > trial.plainMsPerByte * TRIAL_SHARE
    if (isSlower) this.#suspectMsPerByte = trial.plainMsPerByte
    if (isSlower || trial.allBytes >= REMEASURE_BYTES) {
      this.#trial = null
      this.#dense = []
      this.#pace.measureAnew()
    }
    trial.rawBytes = 0
    trial.ms = 0
  }
}

function middle(values: readonly number[], otherwise: number): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? otherwise
}
