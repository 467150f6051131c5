// The memory that quick-reader.ts and its thread share: a ring of read requests, and room for what they read. Layout only.

/** Reads in the ring at once. A power of two: the counters wrap. */
export const RING_SLOTS = 256
/** Longer reads are not worth it: there the reading costs more than the asking. */
export const QUICK_READ_MAX_BYTES = 16 * 1024

/** Places in `counters`: how many reads were asked for, and done; and whether a word to the asker is on its way. */
export const ASKED = 0
export const DONE = 1
export const TOLD = 2

/** A result that is no count of bytes: the thread gave it back, for the thread pool to do. */
export const GIVEN_BACK = -1

export interface QuickRing {
  readonly counters: Int32Array
  /** By slot: descriptor, length, result. */
  readonly fds: Int32Array
  readonly lengths: Int32Array
  readonly results: Int32Array
  readonly offsets: Float64Array
  readonly data: Uint8Array
}

export function ringOn(memory: SharedArrayBuffer): QuickRing {
  const words = 4 * RING_SLOTS
  return {
    counters: new Int32Array(memory, 0, 16),
    fds: new Int32Array(memory, 64, RING_SLOTS),
    lengths: new Int32Array(memory, 64 + words, RING_SLOTS),
    results: new Int32Array(memory, 64 + 2 * words, RING_SLOTS),
    offsets: new Float64Array(memory, 64 + 3 * words, RING_SLOTS),
    data: new Uint8Array(memory, DATA_AT),
  }
}

const DATA_AT = 64 + 5 * 4 * RING_SLOTS
export const RING_BYTES = DATA_AT + RING_SLOTS * QUICK_READ_MAX_BYTES
