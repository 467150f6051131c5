// Whether compressing a batch pays: a pure choice from what compressing and sending have cost so far.

/** While it does not pay, every so many batches one is compressed all the same, to see whether it would now. */
export const PROBE_EVERY_BATCHES = 64
/** Weight of the newest measurement. */
const NEW_SHARE = 0.3

export interface CompressionState {
  readonly batches: number
  /** Compressed bytes per raw byte; null: never tried. */
  readonly ratio: number | null
  /** Time to compress one raw byte. */
  readonly msPerByte: number
  /** Time the wire takes for one byte; 0: faster than can be measured. */
  readonly wireMsPerByte: number
}

export const INITIAL_COMPRESSION: CompressionState = { batches: 0, ratio: null, msPerByte: 0, wireMsPerByte: 0 }

export function shouldCompress(state: CompressionState): boolean {
  // A wire that takes no measurable time gains nothing from fewer bytes.
  if (state.wireMsPerByte === 0) return false
  if (state.ratio === null || state.batches % PROBE_EVERY_BATCHES === 0) return true
  return state.msPerByte + state.ratio * state.wireMsPerByte < state.wireMsPerByte
}

export function afterCompressing(
  state: CompressionState,
  rawBytes: number,
  bodyBytes: number,
  ms: number,
): CompressionState {
  return {
    ...state,
    ratio: mix(state.ratio, bodyBytes / rawBytes),
    msPerByte: mix(state.ratio === null ? null : state.msPerByte, ms / rawBytes),
  }
}

/** `ms`: from handing the batch over until the stream would take the next. */
export function afterSending(state: CompressionState, bytes: number, ms: number): CompressionState {
  const wireMsPerByte = mix(state.batches === 0 ? null : state.wireMsPerByte, ms / bytes)
  return { ...state, batches: state.batches + 1, wireMsPerByte }
}

function mix(former: number | null, measured: number): number {
  return former === null ? measured : former * (1 - NEW_SHARE) + measured * NEW_SHARE
}
