// Which of two hosts dials the other: each pair has one link of a kind, dialled by the one whose name comes first, and dialled
// again when it is lost.

import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import type { Address, Environment, LinkClass } from '@stellwerk/runtime/environment.ts'

const BACKOFF = { minMs: 50, maxMs: 1_000 }

export interface PeerDialsOptions {
  readonly env: Environment
  readonly identity: Identity
  readonly class: LinkClass
  readonly onUp: (session: Session) => void
}

interface Dialled {
  readonly session: PersistentSession
  address: Address
}

export class PeerDials {
  readonly #options: PeerDialsOptions
  readonly #dialled = new Map<string, Dialled>()

  constructor(options: PeerDialsOptions) {
    this.#options = options
  }

  /** The hosts there are, by name; where one is reached may change. */
  follow(hosts: ReadonlyMap<string, Address>): void {
    const { identity } = this.#options
    for (const [name, { session }] of this.#dialled) {
      if (hosts.has(name)) continue
      session.stop()
      this.#dialled.delete(name)
    }
    for (const [name, address] of hosts) {
      if (name <= identity.node) continue
      const known = this.#dialled.get(name)
      if (known === undefined) this.#dial(name, address)
      else known.address = address
    }
  }

  stop(): void {
    for (const { session } of this.#dialled.values()) session.stop()
    this.#dialled.clear()
  }

  #dial(name: string, address: Address): void {
    const { env, identity, onUp } = this.#options
    const dialled: Dialled = {
      address,
      session: new PersistentSession({
        ...{ env, identity, backoff: BACKOFF, onUp, class: this.#options.class },
        address: () => dialled.address,
      }),
    }
    this.#dialled.set(name, dialled)
    dialled.session.start()
  }
}
