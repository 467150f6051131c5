// What the requests on one path took lately: a ring of samples, so that a request costs one store.

/** Samples kept. */
const KEPT = 64
/** A median of fewer says nothing. */
const ENOUGH = 8

export class Latencies {
  readonly #ring = new Float64Array(KEPT)
  #next = 0
  #filled = 0
  /** Since a look last had enough of them, and since the last look. */
  #fresh = 0
  #news = 0
  /** Of what is kept; null: not computed since the last sample. */
  #median: number | null = null

  add(ms: number): void {
    this.#median = null
    this.#ring[this.#next] = ms
    this.#next = (this.#next + 1) % KEPT
    if (this.#filled < KEPT) this.#filled += 1
    this.#fresh += 1
    this.#news += 1
  }

  /** Of what is kept, however old; null: nothing was measured yet. */
  get median(): number | null {
    if (this.#filled === 0) return null
    this.#median ??= medianOf(this.#ring.slice(0, this.#filled))
    return this.#median
  }

  /**
   * Of the samples since a look last told something; null while they are too few to: of a path that is little used they are
   * gathered over some looks. What is still under way counts for as long as it has taken, once nothing else has come.
   */
  look(oldestAgeMs: number | null): number | null {
    const news = this.#news
    this.#news = 0
    if (news === 0) return oldestAgeMs
    const fresh = Math.min(this.#fresh, KEPT)
    if (fresh < ENOUGH) return null
    this.#fresh = 0
    const samples = new Float64Array(fresh)
    for (let i = 0; i < fresh; i += 1) samples[i] = this.#ring[(this.#next - 1 - i + KEPT) % KEPT]!
    return medianOf(samples)
  }
}

/** Sorts them. */
function medianOf(samples: Float64Array): number {
  return samples.sort()[Math.floor((samples.length - 1) / 2)]!
}
