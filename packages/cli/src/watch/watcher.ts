// Keeps what is known of a cluster up to date: asks for the status at an interval, and at once when an event tells that something
// happened; follows the stream of events; while the coordinator is away asks the agents, until it answers again. It shows nothing.

import type { ClusterEvent, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { AgentsView } from '../cluster/agents-view.ts'
import { agentsSaid, EVENTS_KEPT, happened, heard, heardAnew, type Known, NOTHING_KNOWN, wentAway } from './known.ts'

/** The coordinator, as far as somebody who watches needs it. */
export interface Source {
  status(timeoutMs: number): Promise<Status>
  events(after: number, limit: number): Promise<ClusterEvent[]>
  follow(onEvent: (event: ClusterEvent) => void, onEnd: () => void): Promise<() => void>
}

export interface WatcherOptions {
  readonly intervalMs: number
  readonly now: () => number
  /** Asked again after each failure: it may be elsewhere by then. Throws where there is nothing to ask. */
  readonly source: () => Promise<Source>
  /** Null: nobody else can be asked. */
  readonly agents: (() => Promise<AgentsView>) | null
  readonly onNews: (known: Known) => void
}

/** However much happens, the coordinator is asked no more often than that. */
const LEAST_GAP_MS = 250
const STATUS_MS = 3_000
/** The agents are asked over links that are made for it: not so often. */
const AGENTS_MS = 2_000
const FOLLOW_AGAIN_MS = 5_000

export class Watcher {
  readonly #options: WatcherOptions
  #known: Known = NOTHING_KNOWN
  #source: Source | null = null
  #unfollow: (() => void) | null = null
  #following = false
  #followAt = 0
  #busy = false
  #dueAt = 0
  #lookedAt = Number.NEGATIVE_INFINITY
  #agentsAt = Number.NEGATIVE_INFINITY
  #ended = false

  constructor(options: WatcherOptions) {
    this.#options = options
  }

  get known(): Known {
    return this.#known
  }

  /** Called often: looks when it is time to. What goes wrong out there becomes known; it rejects for a bug alone. */
  async tick(): Promise<void> {
    const now = this.#options.now()
    if (this.#busy || this.#ended || now < this.#dueAt) return
    this.#busy = true
    this.#lookedAt = now
    this.#dueAt = now + this.#options.intervalMs
    try {
      await this.#look()
    } finally {
      this.#busy = false
    }
  }

  stop(): void {
    this.#ended = true
    this.#unfollow?.()
  }

  async #look(): Promise<void> {
    const { now, source } = this.#options
    try {
      this.#source ??= await source()
      const status = await this.#source.status(STATUS_MS)
      this.#news(heard(this.#known, status, now()))
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      this.#source = null
      this.#news(wentAway(this.#known, errorMessage(error), now()))
      await this.#askAgents()
      return
    }
    await this.#follow(this.#source)
  }

  async #askAgents(): Promise<void> {
    const { now, agents } = this.#options
    if (agents === null || now() - this.#agentsAt < AGENTS_MS) return
    this.#agentsAt = now()
    try {
      this.#news(agentsSaid(this.#known, await agents(), now()))
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      this.#news(wentAway(this.#known, errorMessage(error), now()))
    }
  }

  /** The stream first, then what was before: so nothing is missed between the two. */
  async #follow(source: Source): Promise<void> {
    const { now } = this.#options
    if (this.#following || now() < this.#followAt) return
    this.#followAt = now() + FOLLOW_AGAIN_MS
    this.#following = true
    const held: ClusterEvent[] = []
    let past = false
    try {
      const unfollow = await source.follow(
        event => {
          if (past) this.#happened([event])
          else held.push(event)
        },
        () => {
          this.#following = false
          this.#unfollow = null
          this.#soon()
        },
      )
      this.#unfollow = unfollow
      this.#news(heardAnew(this.#known, await source.events(0, EVENTS_KEPT)))
      past = true
      this.#happened(held)
      if (this.#ended) unfollow()
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      // Without the stream (too many follow it, or it has just gone) the status alone is asked for, and the stream again later.
      this.#unfollow?.()
      this.#unfollow = null
      this.#following = false
    }
  }

  #happened(events: readonly ClusterEvent[]): void {
    if (events.length === 0 || this.#ended) return
    this.#news(happened(this.#known, events))
    this.#soon()
  }

  #soon(): void {
    this.#dueAt = Math.min(this.#dueAt, this.#lookedAt + LEAST_GAP_MS)
  }

  #news(known: Known): void {
    if (this.#ended) return
    this.#known = known
    this.#options.onNews(known)
  }
}
