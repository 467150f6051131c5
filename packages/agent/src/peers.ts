// Links to the other hosts' agents. They carry heartbeats and what hosts ask each other (a volume's owner, above all).

import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { bindSession } from '@stellwerk/protocol/session-bridge.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { PeerDials } from './peer-dials.ts'

export class Peers {
  readonly #env: Environment
  readonly #system: ActorSystem
  readonly #identity: Identity
  readonly #dials: PeerDials
  readonly #heardAt = new Map<string, number>()
  #names: readonly string[] = []

  constructor(env: Environment, system: ActorSystem, identity: Identity) {
    this.#env = env
    this.#system = system
    this.#identity = identity
    this.#dials = new PeerDials({ env, identity, class: 'control', onUp: session => this.accept(session) })
  }

  follow(hosts: ClusterMap['hosts']): void {
    this.#names = hosts.map(host => host.name).filter(name => name !== this.#identity.node)
    this.#dials.follow(new Map(hosts.map(({ name, control }) => [name, control])))
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
    this.#dials.stop()
  }
}
