// What the other side has: a copy of every page as it was last sent. A page is dirty if the memory differs from it, so
// no write needs to be tracked, and a page torn by copying it while the guest ran differs again and is sent again.

import { assert } from '@stellwerk/runtime/assert.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import { PAGE_BYTES } from './state-checksum.ts'

/** Compared as a whole first: fewer calls, and memcmp stops at the first difference anyhow. */
const BLOCK_BYTES = 64 * KIB

export class Shadow {
  readonly pages: number
  readonly #memory: Buffer
  /** Starts as zeroes, as the other side's memory does: pages never touched are equal from the start and never sent. */
  readonly #copy: Buffer

  constructor(memory: Buffer) {
    assert(memory.length > 0 && memory.length % PAGE_BYTES === 0, `memory of ${memory.length} bytes is not whole pages`)
    this.#memory = memory
    this.#copy = Buffer.alloc(memory.length)
    this.pages = memory.length / PAGE_BYTES
  }

  /** Appends the numbers of dirty pages in `[from, to)` to `dirty`. */
  scan(from: number, to: number, dirty: number[]): void {
    const memory = this.#memory
    const copy = this.#copy
    const end = to * PAGE_BYTES
    for (let block = from * PAGE_BYTES; block < end; block += BLOCK_BYTES) {
      const blockEnd = Math.min(block + BLOCK_BYTES, end)
      if (memory.compare(copy, block, blockEnd, block, blockEnd) === 0) continue
      for (let at = block; at < blockEnd; at += PAGE_BYTES) {
        const pageEnd = at + PAGE_BYTES
        if (memory.compare(copy, at, pageEnd, at, pageEnd) !== 0) dirty.push(at / PAGE_BYTES)
      }
    }
  }

  /**
   * Copies the page as it is now, first here and from here into `into`: what is sent and what is remembered are the
   * same even while the guest writes to it.
   */
  take(page: number, into: Buffer, at: number): void {
    const start = page * PAGE_BYTES
    this.#memory.copy(this.#copy, start, start, start + PAGE_BYTES)
    this.#copy.copy(into, at, start, start + PAGE_BYTES)
  }
}
