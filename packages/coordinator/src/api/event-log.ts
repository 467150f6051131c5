// What happens in the cluster, as a bounded list that operators read and follow: the coordinator's own decisions, taken from
// its trace as they are emitted. It lasts as long as the process; the store keeps the decisions, the trace files all of it.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Environment, Json, TraceEvent, TraceSink } from '@stellwerk/runtime/environment.ts'
import type { DecisionRecord } from '../core/state.ts'
import type { ClusterEvent } from '../view/schemas.ts'

export const EVENTS_KEPT = 2_000
/** Decisions of earlier runs that are shown at the start. */
const DECISIONS_SHOWN = 100
export const FOLLOWERS_MAX = 64

export class EventLog {
  readonly #events: ClusterEvent[] = []
  readonly #followers = new Set<(event: ClusterEvent) => void>()
  #seq = 0

  /** `env`, with a trace that this log hears too. Decisions in its store come first. */
  watch(env: Environment): Environment {
    for (const [, value] of env.store.entries('decisions/').slice(-DECISIONS_SHOWN)) {
      const decision = value as unknown as DecisionRecord
      this.#add(decision.wallMs, `decision.${decision.kind}`, decision.subject, tell(decision))
    }
    const inner = env.trace
    const trace: TraceSink = {
      on: level => inner.on(level),
      emit: event => {
        if (event.level === 'decision') this.#hear(event, env.clock.wall())
        return inner.emit(event)
      },
      observe: hlc => inner.observe(hlc),
      stamp: () => inner.stamp(),
      within: (cause, f) => inner.within(cause, f),
      input: (core, value) => inner.input(core, value),
      output: (core, value) => inner.output(core, value),
      snapshot: (core, state) => inner.snapshot(core, state),
    }
    const { name, clock, timers, network, files, store, processes, compute, random, log } = env
    return { name, clock, timers, network, files, store, processes, compute, random, log, trace }
  }

  /** Newest last. */
  since(seq: number, limit: number): ClusterEvent[] {
    const after = this.#events.filter(event => event.seq > seq)
    return limit >= after.length ? after : after.slice(after.length - limit)
  }

  get followers(): number {
    return this.#followers.size
  }

  follow(f: (event: ClusterEvent) => void): () => void {
    assert(this.#followers.size < FOLLOWERS_MAX, 'who follows asks first whether there is room')
    this.#followers.add(f)
    return () => this.#followers.delete(f)
  }

  #hear(event: TraceEvent, wallMs: number): void {
    if (event.kind.startsWith('decision.')) {
      const decision = event.body as unknown as DecisionRecord
      this.#add(wallMs, event.kind, decision.subject, tell(decision))
      return
    }
    const subject = event.vm ?? event.volume ?? event.host ?? null
    this.#add(wallMs, event.kind, subject, describe(event))
  }

  #add(wallMs: number, kind: string, subject: string | null, text: string): void {
    this.#seq += 1
    const event: ClusterEvent = { seq: this.#seq, wallMs, kind, subject, text }
    this.#events.push(event)
    if (this.#events.length > EVENTS_KEPT) this.#events.shift()
    for (const follower of [...this.#followers]) follower(event)
  }
}

function tell(decision: DecisionRecord): string {
  return `${decision.subject}: ${decision.chose} (${decision.why})`
}

/** `vm.started` of ledger-1 on host-a becomes `ledger-1 started on host-a, epoch 3`. */
function describe(event: TraceEvent): string {
  const { vm, volume, host, kind } = event
  const subject = vm ?? volume ?? host
  const what = kind.slice(kind.indexOf('.') + 1).replaceAll('-', ' ')
  const family = kind.slice(0, kind.indexOf('.'))
  const verb = family === 'vm' || family === 'host' || family === 'volume' ? what : `${family} ${what}`
  const place = host !== undefined && host !== subject ? ` on ${host}` : ''
  const details = detailsOf(event.body)
  return `${subject === undefined ? '' : `${subject}: `}${verb}${place}${details === '' ? '' : ` (${details})`}`
}

function detailsOf(body: Json | undefined): string {
  if (body === undefined || body === null || typeof body !== 'object' || Array.isArray(body)) return ''
  return Object.entries(body)
    .filter(([, value]) => value !== null && typeof value !== 'object')
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ')
}
