// The memory that a socket's bytes are read into: slabs, filled from front to back. What was handed over is a view of one
// and is never written again; a slab is garbage once all of its views are. A read may take all that a slab has left, so
// that a busy socket is read in few system calls, without a buffer and a copy for each.

import { KIB, MIB } from '../units.ts'
import { countBuffer } from './young-collector.ts'

/** A quiet socket holds one of these, and what was handed over of it. */
const SLAB_MIN_BYTES = 64 * KIB
const SLAB_MAX_BYTES = 1 * MIB
/** With less room than this a new slab is begun; more than a unix socket holds would be no use. */
const ROOM_MIN_FRACTION = 4

export class ReceiveSlab {
  #slab: Uint8Array = new Uint8Array(0)
  #used = 0
  #sizeBytes = SLAB_MIN_BYTES

  /** Where the next bytes go. */
  room(): Uint8Array {
    if (this.#slab.length - this.#used < this.#sizeBytes / ROOM_MIN_FRACTION) {
      this.#slab = Buffer.allocUnsafeSlow(this.#sizeBytes)
      this.#used = 0
      countBuffer(this.#sizeBytes)
    }
    return this.#slab.subarray(this.#used)
  }

  /** The first `length` bytes of the room, which have been filled. */
  take(length: number): Uint8Array {
    const start = this.#used
    this.#used += length
    // A read that fills the room says that there was more.
    if (this.#used === this.#slab.length) this.#sizeBytes = Math.min(this.#sizeBytes * 2, SLAB_MAX_BYTES)
    return this.#slab.subarray(start, this.#used)
  }
}
