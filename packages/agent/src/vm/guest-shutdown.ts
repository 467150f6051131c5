// A guest that is given time to end by itself: it is asked once, and is killed when the time is over.

export class GuestShutdown {
  #until: number | null = null
  #asked = false

  get begun(): boolean {
    return this.#until !== null
  }

  get asked(): boolean {
    return this.#asked
  }

  /** `until`: ms of the monotonic clock. False when it has no more time than that already. */
  begin(until: number): boolean {
    if (this.#until !== null && this.#until <= until) return false
    this.#until = until
    return true
  }

  /** True where it is to be asked now. */
  ask(): boolean {
    if (this.#until === null || this.#asked) return false
    this.#asked = true
    return true
  }

  over(now: number): boolean {
    return this.#until !== null && now >= this.#until
  }
}
