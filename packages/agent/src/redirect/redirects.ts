// Redirection as the agent has it, both ways: this host's paths of last resort, and what it carries for others.

import type { PathTransport } from '@stellwerk/block/path/transport.ts'
import type { ClusterMap, ClusterMapStorage } from '@stellwerk/protocol/messages/cluster.ts'
import type { LunBehind } from '@stellwerk/protocol/messages/storage.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { StorageLinks } from '../hba/storage-links.ts'
import type { Peers } from '../peers.ts'
import { RedirectServer } from './redirect-server.ts'
import { redirectedPath } from './redirected-path.ts'
import { type StandbyPeer, StandbyRoutes } from './standby-routes.ts'

/** A peer whose last beat is not older than so many heartbeats is heard. */
const HEARD_BEATS = 2.5
/** Peers asked to relay an order of the owner's to a storage. */
const RELAY_TRIES = 3

export interface RedirectsOptions {
  readonly env: Environment
  readonly system: ActorSystem
  readonly identity: Identity
  readonly links: StorageLinks
  readonly peers: Peers
  readonly settings: () => Settings
  /** Ours; 0: none. */
  readonly epoch: () => number
  /** Fabrics that an operator has taken from this host. */
  readonly disabled: () => readonly string[]
  readonly coordinatorUp: () => boolean
  /** A probe sent at this time, and carried by a peer, was answered as to an admitted host of this epoch. */
  readonly onProbed: (storage: string, sentAt: number, epoch: number) => void
  readonly onRefused: (epoch: number, why: string) => void
  /** As for a probe over an HBA of our own (storage-links.ts). */
  readonly luns: (storage: string) => { lun: string; generation: number }[]
  readonly onBehind: (behind: readonly LunBehind[]) => void
}

export class Redirects {
  readonly #options: RedirectsOptions
  readonly #routes: StandbyRoutes
  readonly #server: RedirectServer
  #storages: readonly ClusterMapStorage[] = []

  constructor(options: RedirectsOptions) {
    this.#options = options
    const { env, identity, links, settings } = options
    this.#routes = new StandbyRoutes(identity.node)
    this.#server = new RedirectServer({
      env,
      host: identity.node,
      storage: name => this.#storages.find(storage => storage.name === name) ?? null,
      hbas: storage => links.answering(storage, settings().heartbeatMs * HEARD_BEATS, options.disabled()),
      dialTimeoutMs: () => this.#timeoutMs(),
    })
  }

  follow(map: ClusterMap): void {
    this.#storages = map.storages
    this.#routes.follow(map)
  }

  accept(session: Session): void {
    this.#server.accept(session)
  }

  get carried(): { host: string; storage: string }[] {
    return this.#server.carried
  }

  stop(): void {
    this.#server.stop()
  }

  /** One more path to the LUN, for its multipath set. */
  path(storage: string, lun: string): PathTransport {
    const { env, identity } = this.#options
    return redirectedPath({
      env,
      identity,
      storage,
      peers: () => this.#peersFor(storage, lun),
      onFailed: peer => this.#routes.failed(peer, env.clock.now()),
      probe: peer => this.#probe(storage, peer),
      timeoutMs: this.#timeoutMs(),
      epochOf: peer => this.#routes.epochOf(peer),
    })
  }

  /** An order to a storage that none of our own HBAs reaches. */
  async relay(storage: string, lun: string, kind: string, body: unknown, deadlineMs: number): Promise<unknown> {
    let last: unknown = new StellwerkError('no-route', `no peer is known that has a path to ${storage}`, {
      retryable: true,
    })
    for (const peer of this.#peersFor(storage, lun).slice(0, RELAY_TRIES)) {
      try {
        return await this.#relayVia(peer.name, storage, kind, body, deadlineMs)
      } catch (error) {
        last = error
        if (!(error instanceof StellwerkError) || !error.retryable) throw error
      }
    }
    throw last
  }

  async #relayVia(peer: string, storage: string, kind: string, body: unknown, deadlineMs: number): Promise<unknown> {
    const { system, identity } = this.#options
    const self = `${identity.node}/agent`
    const reply = await system.ask(self, `${peer}/agent`, 'storage.relay', { storage, kind, body }, deadlineMs)
    return (reply as { body: unknown }).body
  }

  #peersFor(storage: string, lun: string): StandbyPeer[] {
    const { env, peers, settings, coordinatorUp } = this.#options
    if (canary('routes-not-ahead') && !coordinatorUp()) return []
    const withinMs = settings().heartbeatMs * HEARD_BEATS
    const heard = new Set(peers.views().flatMap(view => (view.heardAgoMs <= withinMs ? [view.host] : [])))
    return this.#routes.inOrder(storage, lun, peer => heard.has(peer), env.clock.now())
  }

  /** The same question as over an HBA, and as good for the storage lease: the storage answers this host, at its epoch. */
  async #probe(storage: string, peer: string): Promise<void> {
    const { env, identity, settings, epoch, luns, onBehind, onProbed, onRefused } = this.#options
    const sentAt = env.clock.now()
    const asked = epoch()
    try {
      const body = { host: identity.node, epoch: asked, luns: luns(storage) }
      const answer = await this.#relayVia(peer, storage, 'storage.probe', body, settings().heartbeatMs * 2)
      const { behind } = answer as { behind: readonly LunBehind[] }
      if (behind.length > 0) {
        onBehind(behind)
        return
      }
    } catch (error) {
      const code = errorCode(error)
      if (code === 'epoch-refused') onRefused(asked, errorMessage(error))
      else if (code !== 'not-admitted') throw error
      return
    }
    onProbed(storage, sentAt, asked)
  }

  #timeoutMs(): number {
    return this.#options.settings().ioDeadlineMs / 2
  }
}
