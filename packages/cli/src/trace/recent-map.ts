// A map that forgets what was set long ago: the `keep` newest entries are always there, and never more than twice as many. Two
// generations, of which the older one goes whole: taking the oldest entry out of one map over and over makes it look past all
// those that went before, each time.

export class RecentMap<K, V> {
  readonly #keep: number
  #young = new Map<K, V>()
  #old = new Map<K, V>()

  constructor(keep: number) {
    this.#keep = keep
  }

  get(key: K): V | undefined {
    return this.#young.get(key) ?? this.#old.get(key)
  }

  set(key: K, value: V): void {
    this.#old.delete(key)
    this.#young.set(key, value)
    if (this.#young.size < this.#keep) return
    this.#old = this.#young
    this.#young = new Map()
  }

  delete(key: K): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }

  /** The newest `keep` of them, oldest first. */
  values(): V[] {
    return [...this.#old.values(), ...this.#young.values()].slice(-this.#keep)
  }
}
