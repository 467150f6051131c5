// Many short reads at once of what the page cache has: a thread reads them synchronously out of a ring in shared memory.
// The thread pool costs a system call or two to ask and to answer, each read; the ring costs that once a batch. It is an
// offer, taken only when it pays: not for a single read, nor for long ones, nor while the disk itself has to be waited for.
// Measured, 4 KiB reads over NBD with 32 in flight: 5 µs of the main thread and 3 of this one, against 15 and 8.

import { Worker } from 'node:worker_threads'
import { ASKED, DONE, QUICK_READ_MAX_BYTES, RING_BYTES, RING_SLOTS, ringOn, TOLD } from './quick-ring.ts'
import { countBuffer } from './young-collector.ts'

/** Reads under way from which on the ring is used; and for how many more reads after it was last so deep. */
const DEEP = 8
const STAYS_DEEP_READS = 64
/** After the thread gave reads back: so many go by the thread pool before it is asked again. */
const SLOW_PAUSE_READS = 500
/** Results are copied out of the ring into slabs of this size. */
const SLAB_BYTES = 256 * 1024

type Read = (bytes: Uint8Array | null) => void

let shared: QuickReader | null = null

/** One thread for all files of the process, started when first asked for. */
export function quickReader(): QuickReader {
  shared ??= new QuickReader()
  return shared
}

export class QuickReader {
  readonly #memory = new SharedArrayBuffer(RING_BYTES)
  readonly #ring = ringOn(this.#memory)
  readonly #waiting: (Read | null)[] = new Array(RING_SLOTS).fill(null)
  #asked = 0
  #taken = 0
  #deep = 0
  #pause = 0
  #slab = new Uint8Array(0)
  #slabUsed = 0
  #alive = true
  #error: unknown = null
  readonly #thread: Worker

  constructor() {
    const thread = new Worker(new URL('./quick-reader-thread.ts', import.meta.url), { workerData: this.#memory })
    this.#thread = thread
    // It alone does not keep the process alive; a read that waits does.
    thread.unref()
    thread.on('message', () => this.#take())
    thread.on('error', error => {
      this.#error = error
    })
    thread.on('exit', () => {
      // Whatever ended it (`#error`): the thread pool does its work from here on.
      this.#alive = false
      for (const [slot, waiting] of this.#waiting.entries()) {
        this.#waiting[slot] = null
        waiting?.(null)
      }
    })
  }

  /**
   * False: not worth it now, do it otherwise. True: `done` will be called, with the bytes, or with null: do it otherwise.
   * `underWay`: reads that are being done, here or elsewhere.
   */
  offer(fd: number, offset: number, length: number, underWay: number, done: Read): boolean {
    if (underWay >= DEEP) this.#deep = STAYS_DEEP_READS
    else if (this.#deep > 0) this.#deep -= 1
    if (this.#deep === 0 || length > QUICK_READ_MAX_BYTES || !this.#alive) return false
    if (this.#pause > 0) {
      this.#pause -= 1
      return false
    }
    if (((this.#asked - this.#taken) | 0) >= RING_SLOTS) return false
    if (this.#asked === this.#taken) this.#thread.ref()
    const slot = this.#asked & (RING_SLOTS - 1)
    const { counters, fds, lengths, offsets } = this.#ring
    fds[slot] = fd
    lengths[slot] = length
    offsets[slot] = offset
    this.#waiting[slot] = done
    this.#asked = (this.#asked + 1) | 0
    Atomics.store(counters, ASKED, this.#asked)
    Atomics.notify(counters, ASKED)
    return true
  }

  #take(): void {
    const { counters, lengths, results } = this.#ring
    // First the flag: what is done after this is told anew.
    Atomics.store(counters, TOLD, 0)
    const done = Atomics.load(counters, DONE)
    while (this.#taken !== done) {
      const slot = this.#taken & (RING_SLOTS - 1)
      const length = lengths[slot]!
      const complete = results[slot] === length
      const bytes = complete ? this.#copy(slot, length) : null
      // Short at the end of the file, failed or given back: all the same to who asked. Only the last is a reason to pause.
      if (!complete && results[slot]! < 0) this.#pause = SLOW_PAUSE_READS
      const waiting = this.#waiting[slot]!
      this.#waiting[slot] = null
      this.#taken = (this.#taken + 1) | 0
      waiting(bytes)
    }
    if (this.#asked === this.#taken) this.#thread.unref()
  }

  /** Why it does nothing any more; null while it lives. */
  get error(): unknown {
    return this.#alive ? null : (this.#error ?? 'ended')
  }

  /** For tests: the thread ends as if it had crashed. */
  async kill(): Promise<void> {
    await this.#thread.terminate()
  }

  #copy(slot: number, length: number): Uint8Array {
    if (this.#slabUsed + length > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
      this.#slabUsed = 0
      countBuffer(SLAB_BYTES)
    }
    const bytes = this.#slab.subarray(this.#slabUsed, this.#slabUsed + length)
    this.#slabUsed += length
    const at = slot * QUICK_READ_MAX_BYTES
    bytes.set(this.#ring.data.subarray(at, at + length))
    return bytes
  }
}
