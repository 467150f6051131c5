// Which way an address lies: the longest prefix (of whole segments) that is local or has a route decides.
import type { ActorAddress, Remote } from './message.ts'

/** A cluster has tens of peers; a thousand routes mean that somebody forgets to remove them. */
export const MAX_ROUTES = 1024

export class RouteTable<R extends { readonly remote: Remote }> {
  readonly #ways = new Map<string, R | 'local'>()

  addLocal(prefix: string): void {
    this.#ways.set(prefix, 'local')
  }

  /** Gives the route it replaced, if there was one. */
  add(prefix: string, route: R): R | undefined {
    const former = this.#ways.get(prefix)
    this.#ways.set(prefix, route)
    return former === 'local' ? undefined : former
  }

  has(prefix: string, route: R): boolean {
    return this.#ways.get(prefix) === route
  }

  remove(prefix: string): void {
    this.#ways.delete(prefix)
  }

  get size(): number {
    return this.#ways.size
  }

  find(address: ActorAddress): R | 'local' | null {
    let prefix = address
    while (true) {
      const way = this.#ways.get(prefix)
      if (way !== undefined) return way
      const cut = prefix.lastIndexOf('/')
      if (cut < 0) return prefix === '' ? null : (this.#ways.get('') ?? null)
      prefix = prefix.slice(0, cut)
    }
  }
}

/** The address one segment further out, or null at the outermost. */
export function parentOf(address: ActorAddress): ActorAddress | null {
  const cut = address.lastIndexOf('/')
  return cut < 0 ? null : address.slice(0, cut)
}
