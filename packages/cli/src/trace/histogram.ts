// How values of one kind are distributed, in little memory whatever their number: quantiles are right to about one part in a
// hundred, the greatest is exact.

/** Buckets a doubling: a value is told to within 1/64 of it. */
const STEPS = 64
/** The smallest value told apart from zero. */
const LEAST = 1e-3

export class Histogram {
  readonly #buckets = new Map<number, number>()
  count = 0
  max = 0
  #sum = 0

  add(value: number): void {
    this.count += 1
    this.#sum += value
    this.max = Math.max(this.max, value)
    const bucket = value <= LEAST ? 0 : 1 + Math.floor(Math.log2(value / LEAST) * STEPS)
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + 1)
  }

  get mean(): number | null {
    return this.count === 0 ? null : this.#sum / this.count
  }

  /** `fraction` of the values are at most so great; null: there are none. */
  quantile(fraction: number): number | null {
    if (this.count === 0) return null
    let left = Math.max(1, Math.ceil(fraction * this.count))
    for (const bucket of [...this.#buckets.keys()].sort((a, b) => a - b)) {
      left -= this.#buckets.get(bucket)!
      // The middle of the bucket, but nothing greater than what was there.
      if (left <= 0) return bucket === 0 ? Math.min(LEAST, this.max) : Math.min(middleOf(bucket), this.max)
    }
    return this.max
  }
}

function middleOf(bucket: number): number {
  return LEAST * 2 ** ((bucket - 0.5) / STEPS)
}
