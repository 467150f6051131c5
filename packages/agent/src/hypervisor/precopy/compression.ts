// Whether compressing the next piece of a stream pays: a pure choice, by a forecast from what compressing and sending have cost so
// far, and then by what really came of it. A target that is slow looks like a slow link to who sends; only the comparison of whole
// stretches, without and with, tells the one from the other.

import { MIB } from '@stellwerk/runtime/units.ts'

/** While it is not forecast to pay, every so many pieces one is compressed all the same, to see whether it would now. */
export const PROBE_EVERY_PIECES = 64
/** Weight of the newest measurement. */
const NEW_SHARE = 0.3
/**
 * A stretch is measured once what went before it is out of the way: a link's window, or on a slow one a while; and until so
 * much has gone through, or it has taken so long.
 */
const SETTLE_BYTES = 16 * MIB
const SETTLE_MS = 300
const JUDGE_BYTES = 16 * MIB
const JUDGE_MS = 200
/** Compressed, a stretch has to take at most so much of the time. */
const WORTH_SHARE = 0.95
/** Where it was not, it is not tried again for so much. */
const REST_BYTES = 512 * MIB

interface Stretch {
  readonly isPacked: boolean
  readonly isSettled: boolean
  readonly rawBytes: number
  readonly wireBytes: number
  readonly ms: number
}

export interface CompressionState {
  readonly pieces: number
  /** Compressed bytes per raw byte; null: never tried. */
  readonly ratio: number | null
  /** Time to compress one raw byte. */
  readonly msPerByte: number
  /** Time the wire takes for one byte; 0: faster than can be measured. */
  readonly wireMsPerByte: number
  /** What a raw byte takes from end to end where nothing is compressed; null: not measured yet. */
  readonly plainMsPerByte: number | null
  readonly stretch: Stretch | null
  /** So many raw bytes go as they are before it is tried again. */
  readonly restBytes: number
}

export const INITIAL_COMPRESSION: CompressionState = {
  ...{ pieces: 0, ratio: null, msPerByte: 0, wireMsPerByte: 0, plainMsPerByte: null, stretch: null, restBytes: 0 },
}

export interface SentPiece {
  readonly rawBytes: number
  readonly wireBytes: number
  /** What compressing it took; null: it was not tried. */
  readonly packMs: number | null
  /** What it came to then, whether it was sent so or not. */
  readonly packedBytes: number
  /** From handing it over until the stream would take the next. */
  readonly sendMs: number
}

export function shouldCompress(state: CompressionState): boolean {
  // A wire that takes no measurable time gains nothing from fewer bytes.
  if (state.wireMsPerByte === 0 || state.plainMsPerByte === null || state.restBytes > 0) return false
  if (state.ratio === null || state.pieces % PROBE_EVERY_PIECES === 0) return true
  return state.msPerByte + state.ratio * state.wireMsPerByte < state.wireMsPerByte
}

export function afterPiece(state: CompressionState, piece: SentPiece): CompressionState {
  const { rawBytes, wireBytes, packMs, packedBytes, sendMs } = piece
  if (rawBytes === 0) return state
  const { pieces, ratio } = state
  const packing =
    packMs === null
      ? {}
      : {
          ratio: mix(ratio, packedBytes / rawBytes),
          msPerByte: mix(ratio === null ? null : state.msPerByte, packMs / rawBytes),
        }
  const forecast: CompressionState = {
    ...{ ...state, ...packing, pieces: pieces + 1 },
    wireMsPerByte: mix(pieces === 0 ? null : state.wireMsPerByte, sendMs / wireBytes),
    restBytes: Math.max(0, state.restBytes - rawBytes),
  }
  return judged(forecast, lengthened(state.stretch, { ...piece, ms: (packMs ?? 0) + sendMs }))
}

function lengthened(stretch: Stretch | null, piece: SentPiece & { readonly ms: number }): Stretch {
  const isPacked = piece.packMs !== null
  const before = stretch?.isPacked === isPacked ? stretch : emptyStretch(isPacked, false)
  const after: Stretch = {
    ...before,
    rawBytes: before.rawBytes + piece.rawBytes,
    wireBytes: before.wireBytes + piece.wireBytes,
    ms: before.ms + piece.ms,
  }
  const isSettled = after.isSettled || after.wireBytes >= SETTLE_BYTES || after.ms >= SETTLE_MS
  return isSettled && !after.isSettled ? emptyStretch(isPacked, true) : after
}

function judged(state: CompressionState, stretch: Stretch): CompressionState {
  const isLong = stretch.isSettled && (stretch.rawBytes >= JUDGE_BYTES || stretch.ms >= JUDGE_MS)
  if (!isLong) return { ...state, stretch }
  const msPerByte = stretch.ms / stretch.rawBytes
  const next = emptyStretch(stretch.isPacked, true)
  if (!stretch.isPacked) return { ...state, stretch: next, plainMsPerByte: msPerByte }
  const isWorth = msPerByte < (state.plainMsPerByte ?? 0) * WORTH_SHARE
  return { ...state, stretch: next, restBytes: isWorth ? 0 : REST_BYTES }
}

function emptyStretch(isPacked: boolean, isSettled: boolean): Stretch {
  return { isPacked, isSettled, rawBytes: 0, wireBytes: 0, ms: 0 }
}

function mix(former: number | null, measured: number): number {
  return former === null ? measured : former * (1 - NEW_SHARE) + measured * NEW_SHARE
}
