// The durable entries behind a simulated process's store: a sorted map of frozen values, and nothing about commits.

import type { Json } from '../environment.ts'

export class StoredEntries {
  readonly #values = new Map<string, Json>()
  /** All keys, sorted; null after a key came or went. */
  #sorted: string[] | null = null

  get(key: string): Json | undefined {
    return this.#values.get(key)
  }

  set(key: string, value: Json): void {
    if (!this.#values.has(key)) this.#sorted = null
    this.#values.set(key, value)
  }

  delete(key: string): void {
    if (this.#values.delete(key)) this.#sorted = null
  }

  withPrefix(prefix: string): readonly (readonly [string, Json])[] {
    const keys = this.#keys()
    let low = 0
    let high = keys.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((keys[middle] ?? '') < prefix) low = middle + 1
      else high = middle
    }
    const found: (readonly [string, Json])[] = []
    for (let i = low; i < keys.length; i++) {
      const key = keys[i] ?? ''
      if (!key.startsWith(prefix)) break
      found.push([key, this.#values.get(key) ?? null])
    }
    return found
  }

  /** Values are frozen, so a copy may share them. */
  clone(): StoredEntries {
    const copy = new StoredEntries()
    for (const [key, value] of this.#values) copy.set(key, value)
    return copy
  }

  #keys(): readonly string[] {
    // By UTF-16 code units, which is what comparing strings does; `sort` without a comparator does the same.
    this.#sorted ??= [...this.#values.keys()].sort()
    return this.#sorted
  }
}
