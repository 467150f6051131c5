// Whom this host may ask to carry its requests: what the coordinator pushed ahead of need, in its order, but first those
// who are heard and have not just failed. Pure; the clock's value is given.

import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'

/** A peer that failed is asked after the others for so long. */
export const FAILED_MS = 5_000

export interface StandbyPeer {
  readonly name: string
  readonly address: Address
}

export class StandbyRoutes {
  readonly #self: string
  readonly #failedAt = new Map<string, number>()
  #map: Pick<ClusterMap, 'hosts' | 'routes'> = { hosts: [], routes: [] }

  constructor(self: string) {
    this.#self = self
  }

  follow(map: Pick<ClusterMap, 'hosts' | 'routes'>): void {
    this.#map = map
    for (const peer of [...this.#failedAt.keys()]) {
      if (!map.hosts.some(host => host.name === peer)) this.#failedAt.delete(peer)
    }
  }

  /** `isHeard`: whether a peer's beats come. Who is not heard is asked all the same, last. */
  inOrder(storage: string, lun: string, isHeard: (peer: string) => boolean, now: number): StandbyPeer[] {
    const route = this.#map.routes.find(each => each.storage === storage && each.lun === lun)
    const rank = (peer: string): number =>
      (isHeard(peer) ? 0 : 2) + (now - (this.#failedAt.get(peer) ?? Number.NEGATIVE_INFINITY) < FAILED_MS ? 1 : 0)
    const found: (StandbyPeer & { readonly rank: number })[] = []
    for (const name of route?.peers ?? []) {
      const host = this.#map.hosts.find(each => each.name === name)
      if (name !== this.#self && host !== undefined) found.push({ name, address: host.control, rank: rank(name) })
    }
    // Stable: among equals the coordinator's order holds.
    return found.sort((a, b) => a.rank - b.rank).map(({ name, address }) => ({ name, address }))
  }

  epochOf(peer: string): number {
    return this.#map.hosts.find(host => host.name === peer)?.epoch ?? 0
  }

  failed(peer: string, now: number): void {
    this.#failedAt.set(peer, now)
  }
}
