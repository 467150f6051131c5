// The right to run machines: while the coordinator's lease holds, or a VM's storage lease does. Pure:
// the clock's value is given. It says whether, never acts; who runs a guest asks at every step and every output.

export interface RightToRunOptions {
  /** How long a granted lease or an answered probe counts from when the request that it answers was sent. */
  readonly leaseMs: number
}

export class RightToRun {
  #leaseMs: number
  #coordinatorUntil = Number.NEGATIVE_INFINITY
  readonly #probed = new Map<string, number>()
  #fenced = false

  constructor(options: RightToRunOptions) {
    this.#leaseMs = options.leaseMs
  }

  /** Leases may become longer while the cluster runs, never shorter. */
  lengthen(leaseMs: number): void {
    this.#leaseMs = Math.max(this.#leaseMs, leaseMs)
  }

  /** The coordinator's answer to a beat sent at `sentAt`. */
  granted(sentAt: number, leaseMs: number): void {
    if (leaseMs > 0) this.#coordinatorUntil = Math.max(this.#coordinatorUntil, sentAt + leaseMs)
  }

  /** A storage answered, as to an admitted host, a probe sent at `sentAt`. */
  probed(storage: string, sentAt: number): void {
    this.#probed.set(storage, Math.max(this.#probed.get(storage) ?? Number.NEGATIVE_INFINITY, sentAt))
  }

  /** Our epoch is refused somewhere: whatever was granted is void. Only a new epoch ends this. */
  fence(): void {
    this.#fenced = true
    this.#coordinatorUntil = Number.NEGATIVE_INFINITY
    this.#probed.clear()
  }

  get fenced(): boolean {
    return this.#fenced
  }

  /** A new epoch, under which nothing runs yet. What an older one was granted does not count. */
  admit(leaseMs: number): void {
    this.#fenced = false
    this.#leaseMs = leaseMs
    this.#coordinatorUntil = Number.NEGATIVE_INFINITY
    this.#probed.clear()
  }

  /**
   * Until when a VM with disks on these storages may run. `storages` null: it has none, or one of them knows no epochs:
   * only the coordinator's lease counts.
   */
  until(storages: readonly string[] | null): number {
    if (this.#fenced) return Number.NEGATIVE_INFINITY
    return Math.max(this.#coordinatorUntil, this.#storageUntil(storages))
  }

  #storageUntil(storages: readonly string[] | null): number {
    if (storages === null || storages.length === 0) return Number.NEGATIVE_INFINITY
    let until = Number.POSITIVE_INFINITY
    for (const storage of storages) {
      until = Math.min(until, (this.#probed.get(storage) ?? Number.NEGATIVE_INFINITY) + this.#leaseMs)
    }
    return until
  }

  mayRun(storages: readonly string[] | null, now: number): boolean {
    return now < this.until(storages)
  }
}
