// The fault by which requests come twice (B10), of simulated hosts: which links, and how often. How it is done on a link, and
// why, is faults/repeating-link.ts.

import type { Environment, Link } from '@stellwerk/runtime/environment.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { LATER_MAX_MS, repeating } from '../faults/repeating-link.ts'

export class RepeatedOrders {
  readonly #random: SimRandom
  /** Host → the share of requests on links from and to it that come twice. */
  readonly #shares = new Map<string, number>()
  repeated = 0

  constructor(random: SimRandom) {
    this.#random = random
  }

  begin(host: string, share: number): void {
    this.#shares.set(host, share)
  }

  end(host: string): void {
    this.#shares.delete(host)
  }

  /** What a process of `host` gets instead of its environment. */
  environment(host: string, env: Environment): Environment {
    const { network } = env
    return {
      ...env,
      network: {
        ...network,
        dial: async (address, linkClass, options) => {
          const link = await network.dial(address, linkClass, options)
          return this.#between(host, address.host, link, env)
        },
        listen: (address, accept) => network.listen(address, link => accept(this.#between(host, link.peer, link, env))),
      },
    }
  }

  /** Links opened while the fault lasts; to those there are already it begins by resetting them. */
  #between(host: string, peer: string, link: Link, env: Environment): Link {
    if (link.class !== 'control') return link
    const whose = this.#shares.has(host) ? host : peer
    if (!this.#shares.has(whose)) return link
    const laterMs = (): number | null => {
      const share = this.#shares.get(whose) ?? 0
      if (!this.#random.chance(share)) return null
      this.repeated++
      return this.#random.float() * LATER_MAX_MS
    }
    return repeating(link, env.timers, laterMs)
  }
}
