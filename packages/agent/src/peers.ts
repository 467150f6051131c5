// Links to the other hosts' agents: each pair has one, dialled by the one whose name comes first. They carry heartbeats
// and what hosts ask each other (a volume's owner, above all).

import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { bindSession } from '@stellwerk/protocol/session-bridge.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Address, Environment } from '@stellwerk/runtime/environment.ts'

const BACKOFF = { minMs: 50, maxMs: 1_000 }

export class Peers {
  readonly #env: Environment
  readonly #system: ActorSystem
  readonly #identity: Identity
  readonly #dialled = new Map<string, { readonly session: PersistentSession; address: Address }>()
  readonly #heardAt = new Map<string, number>()
  #names: readonly string[] = []

  constructor(env: Environment, system: ActorSystem, identity: Identity) {
    this.#env = env
    this.#system = system
    this.#identity = identity
  }

  follow(hosts: ClusterMap['hosts']): void {
    this.#names = hosts.map(host => host.name).filter(name => name !== this.#identity.node)
    for (const host of hosts) {
      if (host.name <= this.#identity.node) continue
      const known = this.#dialled.get(host.name)
      if (known !== undefined) {
        known.address = host.control
        continue
      }
      const { name } = host
      const session = new PersistentSession({
        env: this.#env,
        address: () => this.#dialled.get(name)?.address ?? host.control,
        class: 'control',
        identity: this.#identity,
        backoff: BACKOFF,
        onUp: up => this.accept(up),
      })
      this.#dialled.set(name, { session, address: host.control })
      session.start()
    }
    for (const [name, peer] of this.#dialled) {
      if (this.#names.includes(name)) continue
      peer.session.stop()
      this.#dialled.delete(name)
    }
  }

  /** A session with a peer, whoever dialled. */
  accept(session: Session): void {
    bindSession(this.#system, session, { remotePrefix: session.peer.node })
    this.heard(session.peer.node)
  }

  heard(host: string): void {
    this.#heardAt.set(host, this.#env.clock.now())
  }

  /** How long ago each was heard; only of those that ever were. */
  views(): { host: string; heardAgoMs: number }[] {
    const now = this.#env.clock.now()
    return [...this.#heardAt]
      .filter(([host]) => this.#names.includes(host))
      .map(([host, at]) => ({ host, heardAgoMs: now - at }))
  }

  get names(): readonly string[] {
    return this.#names
  }

  stop(): void {
    for (const peer of this.#dialled.values()) peer.session.stop()
    this.#dialled.clear()
  }
}
