// The writes of one disk that are in flight or queued, by range, so that overlapping requests keep their order: a request
// goes on when every earlier write it overlaps is done. Two legs must not apply overlapping writes in different orders.

export interface Range {
  readonly start: number
  readonly end: number
  /** Counts the writes of the disk: lower is earlier. */
  readonly number: number
  index: number
  done: Promise<void> | null
  resolve: (() => void) | null
}

export class WriteRanges {
  readonly #ranges: Range[] = []
  #next = 1

  get size(): number {
    return this.#ranges.length
  }

  /** True if no write in flight touches the range. */
  isFree(start: number, end: number): boolean {
    const ranges = this.#ranges
    for (let i = 0; i < ranges.length; i += 1) {
      const range = ranges[i]!
      if (range.start < end && start < range.end) return false
    }
    return true
  }

  add(start: number, end: number): Range {
    const range: Range = { start, end, number: this.#next, index: this.#ranges.length, done: null, resolve: null }
    this.#next += 1
    this.#ranges.push(range)
    return range
  }

  remove(range: Range): void {
    const last = this.#ranges.pop()!
    if (last !== range) {
      this.#ranges[range.index] = last
      last.index = range.index
    }
    range.resolve?.()
  }

  /** Resolves when no earlier write touches the range. `before`: the request's own range, or null for a read. */
  async settled(start: number, end: number, before: Range | null): Promise<void> {
    const limit = before === null ? this.#next : before.number
    for (;;) {
      const earlier = this.#ranges.find(range => range.number < limit && range.start < end && start < range.end)
      if (earlier === undefined) return
      earlier.done ??= new Promise(resolve => {
        earlier.resolve = resolve
      })
      await earlier.done
    }
  }
}
