// The host's HBAs as seen from the control side: over each fabric a session to each storage's control link. Probes renew
// the storage lease and tell whether a path works; the same links relay the coordinator's orders where it can't reach one.
// An external storage has no control link: its portals are asked instead, and no lease is had of it.

import { probeNbd } from '@stellwerk/block/nbd/probe.ts'
import type { ClusterMapStorage } from '@stellwerk/protocol/messages/cluster.ts'
import { type LunBehind, storageFamily } from '@stellwerk/protocol/messages/storage.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import type { Address, Environment, NetworkName } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { LinkState } from './open-luns.ts'

export interface StorageLinksOptions {
  readonly env: Environment
  readonly identity: Identity
  readonly hbas: readonly NetworkName[]
  /** Our epoch; 0: none. */
  readonly epoch: () => number
  /** A probe sent at this time was answered as to an admitted host of this epoch. */
  readonly onProbed: (storage: string, sentAt: number, epoch: number) => void
  /** A path answers that did not: worth telling before the next beat. */
  readonly onReached: () => void
  /** LUNs of this storage that are open here: it says whether their generation is still what we think. */
  readonly luns: (storage: string) => { lun: string; generation: number }[]
  /** It is not: the answer is no lease, and the volume has something to follow. */
  readonly onBehind: (behind: readonly LunBehind[]) => void
  /** Our epoch is refused: it was fenced. */
  readonly onRefused: (epoch: number, why: string) => void
}

interface StorageLink {
  readonly storage: string
  readonly hba: NetworkName
  /** Null: an NBD server, which has no control link. */
  readonly session: PersistentSession | null
  readonly address: Address
  /** The question to an NBD server that is on its way. */
  asking: Promise<void> | null
  answeredAt: number
  /** Since when it answers without a gap of more than `GAP_MS`. */
  answersSince: number
  why: string
}

/** Without an answer for so long, the next one begins anew. */
const GAP_MS = 5_000

/** A backoff short enough that a healed fabric is used within a heartbeat or two. */
const BACKOFF = { minMs: 50, maxMs: 1_000 }

export class StorageLinks {
  readonly #options: StorageLinksOptions
  readonly #links = new Map<string, StorageLink>()

  constructor(options: StorageLinksOptions) {
    this.#options = options
  }

  /** Follows the map: new storages are dialled, removed ones dropped. */
  follow(storages: readonly ClusterMapStorage[]): void {
    const wanted = new Set<string>()
    for (const storage of storages) {
      for (const hba of this.#options.hbas) {
        const external = storage.external !== undefined
        const address = (external ? storage.portals : storage.control).find(({ network }) => network === hba)
        if (address === undefined) continue
        const key = `${hba}/${storage.name}`
        wanted.add(key)
        if (this.#links.has(key)) continue
        const { env, identity } = this.#options
        const link: StorageLink = {
          storage: storage.name,
          hba,
          answeredAt: Number.NEGATIVE_INFINITY,
          answersSince: env.clock.now(),
          why: 'not connected yet',
          address,
          asking: null,
          session: external
            ? null
            : new PersistentSession({
                env,
                address: () => address,
                class: 'control',
                identity,
                backoff: BACKOFF,
                onUp: () => this.#probeLink(link, 1_000),
                onDown: error => {
                  link.why = error.message
                },
                onFailed: error => {
                  link.why = error.message
                },
              }),
        }
        this.#links.set(key, link)
        link.session?.start()
        if (external) this.#probeLink(link, 1_000)
      }
    }
    for (const [key, link] of this.#links) {
      if (wanted.has(key)) continue
      link.session?.stop()
      this.#links.delete(key)
    }
  }

  /** Once a heartbeat. */
  probeAll(deadlineMs: number): void {
    for (const link of this.#links.values()) this.#probeLink(link, deadlineMs)
  }

  /** One question over one HBA; rejects when there is no answer. A refusal is an answer: the path works. */
  async probe(hba: NetworkName, storage: string, deadlineMs: number): Promise<void> {
    const link = this.#links.get(`${hba}/${storage}`)
    if (link === undefined) throw new StellwerkError('no-path', `no HBA on ${hba} to ${storage}`, { retryable: true })
    await this.#ask(link, deadlineMs)
  }

  #probeLink(link: StorageLink, deadlineMs: number): void {
    if (link.session !== null && (link.session.session === null || this.#options.epoch() === 0)) return
    this.#ask(link, deadlineMs).catch((error: unknown) => {
      link.why = errorMessage(error)
    })
  }

  /** At NBD's level: it says that the server is there, and gives no right to anything. */
  async #askServer(link: StorageLink, timeoutMs: number): Promise<void> {
    const { network, timers } = this.#options.env
    await probeNbd(await network.dialStream(link.address, { timeoutMs }), timers, timeoutMs)
    const news = link.why !== 'answers'
    this.#answered(link)
    link.why = 'answers'
    if (news) this.#options.onReached()
  }

  async #ask(link: StorageLink, deadlineMs: number): Promise<void> {
    const { env, identity, epoch } = this.#options
    if (link.session === null) {
      link.asking ??= this.#askServer(link, deadlineMs).finally(() => {
        link.asking = null
      })
      return link.asking
    }
    const sentAt = env.clock.now()
    const asked = epoch()
    let behind: readonly LunBehind[] = []
    try {
      const body = { host: identity.node, epoch: asked, luns: this.#options.luns(link.storage) }
      const answer = await storageFamily.request(link.session, 'storage.probe', body, deadlineMs)
      behind = answer.behind
    } catch (error) {
      const code = errorCode(error)
      if (code !== 'epoch-refused' && code !== 'not-admitted') throw error
      this.#answered(link)
      link.why = code
      if (code === 'epoch-refused') this.#options.onRefused(asked, errorMessage(error))
      return
    }
    const news = link.why !== 'answers'
    this.#answered(link)
    link.why = 'answers'
    if (news) this.#options.onReached()
    // Of a generation that is over no lease is had: who counts on this storage may count on another by now.
    if (behind.length > 0) this.#options.onBehind(behind)
    else this.#options.onProbed(link.storage, sentAt, asked)
  }

  #answered(link: StorageLink): void {
    const now = this.#options.env.clock.now()
    if (now - link.answeredAt > GAP_MS) link.answersSince = now
    link.answeredAt = now
  }

  /** HBAs over which the storage answered within this time, the latest answer first; disabled ones only if need be. */
  answering(storage: string, withinMs: number, disabled: readonly string[]): NetworkName[] {
    const now = this.#options.env.clock.now()
    const good = [...this.#links.values()].filter(
      link => link.storage === storage && now - link.answeredAt <= withinMs && link.session?.session != null,
    )
    const rank = (link: StorageLink): number => (disabled.includes(link.hba) ? 1 : 0)
    return good.sort((a, b) => rank(a) - rank(b) || b.answeredAt - a.answeredAt).map(({ hba }) => hba)
  }

  /** Storages that answered over some HBA within this time. */
  reachable(withinMs: number): string[] {
    const now = this.#options.env.clock.now()
    const names = new Set<string>()
    for (const link of this.#links.values()) if (now - link.answeredAt <= withinMs) names.add(link.storage)
    return [...names].sort()
  }

  /** Passes a control message on as it is, over the first HBA that takes it. */
  async relay(storage: string, kind: string, body: unknown, deadlineMs: number): Promise<unknown> {
    let last: unknown = new StellwerkError('no-path', `no HBA reaches ${storage}`, { retryable: true })
    for (const link of this.#links.values()) {
      if (link.storage !== storage || link.session?.session == null) continue
      try {
        return await link.session.request(kind, body, deadlineMs)
      } catch (error) {
        last = error
        if (errorCode(error) !== 'link-lost' && errorCode(error) !== 'deadline') throw error
      }
    }
    throw last
  }

  states(withinMs: number): LinkState[] {
    const now = this.#options.env.clock.now()
    return [...this.#links.values()].map(({ storage, hba, answeredAt, answersSince, why }) => {
      const up = now - answeredAt <= withinMs
      const since = up ? answersSince : Math.max(answersSince, answeredAt)
      return { storage, path: `${hba}/${storage}`, state: up ? 'up' : 'failed', why, since }
    })
  }

  stop(): void {
    for (const link of this.#links.values()) link.session?.stop()
    this.#links.clear()
  }
}
