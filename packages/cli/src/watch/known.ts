// What somebody who watches a cluster knows of it, and how that changes with what is heard. Pure; times are the watcher's own.

import type { ClusterEvent, Status } from '@stellwerk/coordinator/view/schemas.ts'
import type { AgentsView } from '../cluster/agents-view.ts'

/** Events that are kept: more than fit on any screen. */
export const EVENTS_KEPT = 200
/** So long what has changed stands out. */
export const FRESH_MS = 5_000

export interface Known {
  /** What the coordinator said last, and when; null: nothing yet. */
  readonly status: Status | null
  readonly statusAt: number
  /** Newest last. */
  readonly events: readonly ClusterEvent[]
  /** The coordinator does not answer. */
  readonly away: { readonly since: number; readonly why: string } | null
  /** While it does not: what the agents say, and when they said it. */
  readonly agents: { readonly view: AgentsView; readonly at: number } | null
  /** `vm/ledger-1` → when it came to be in another state, or elsewhere. Only of the last moments. */
  readonly changed: ReadonlyMap<string, number>
}

export const NOTHING_KNOWN: Known = {
  status: null,
  statusAt: 0,
  events: [],
  away: null,
  agents: null,
  changed: new Map(),
}

export function heard(known: Known, status: Status, now: number): Known {
  const changed = new Map([...known.changed].filter(([, at]) => now - at < FRESH_MS))
  const before = known.status === null ? null : statesOf(known.status)
  if (before !== null) {
    for (const [key, state] of statesOf(status)) if (before.get(key) !== state) changed.set(key, now)
  }
  return { ...known, status, statusAt: now, away: null, agents: null, changed }
}

/** Oldest first. Those that are known already, as a stream and a question may both tell them, count once. */
export function happened(known: Known, events: readonly ClusterEvent[]): Known {
  const last = known.events.at(-1)?.seq ?? 0
  const news = events.filter(({ seq }) => seq > last)
  return news.length === 0 ? known : { ...known, events: [...known.events, ...news].slice(-EVENTS_KEPT) }
}

/** Another run of the coordinator, or a stream that had ended: events are counted anew, or some are missing. */
export function heardAnew(known: Known, events: readonly ClusterEvent[]): Known {
  return { ...known, events: events.slice(-EVENTS_KEPT) }
}

export function wentAway(known: Known, why: string, now: number): Known {
  return { ...known, away: { since: known.away?.since ?? now, why } }
}

export function agentsSaid(known: Known, view: AgentsView, now: number): Known {
  return known.away === null ? known : { ...known, agents: { view, at: now } }
}

/** Those that came behind `last`, the newest that was shown; null: none was, `most` of the past will do. */
export function newEvents(known: Known, last: ClusterEvent | null, most: number): readonly ClusterEvent[] {
  const { events } = known
  if (last === null) return events.slice(-most)
  const at = events.findIndex(({ seq, wallMs }) => seq === last.seq && wallMs === last.wallMs)
  // A coordinator that has started anew counts anew, and knows of before only what it decided.
  return at < 0 ? events.filter(({ wallMs }) => wallMs > last.wallMs) : events.slice(at + 1)
}

/** What each thing's row is about. */
function statesOf(status: Status): Map<string, string> {
  const states = new Map<string, string>()
  for (const { name, state } of Object.values(status.hosts)) states.set(`host/${name}`, state)
  for (const { name, state, host } of Object.values(status.vms)) states.set(`vm/${name}`, `${state} ${host}`)
  for (const { name, state, owner, legs } of Object.values(status.volumes)) {
    states.set(`volume/${name}`, `${state} ${owner} ${legs.map(leg => `${leg.role} ${leg.state}`)}`)
  }
  return states
}

/** What every look finds changed although nothing happened: ages, speeds, counts of requests. */
const RESTLESS = new Set([
  ...['ageMs', 'uptimeMs', 'sinceMs', 'agoMs', 'leftMs', 'phaseMs', 'pauseMs', 'latencyMs', 'queue', 'requests'],
  ...['bytesPerSecond', 'dirtyBytesPerSecond', 'statistics'],
])

/** Equal for two that tell the same, though at different times. */
export function essence(told: Status | AgentsView): string {
  return JSON.stringify(told, (key, value: unknown) => (RESTLESS.has(key) ? undefined : value))
}
