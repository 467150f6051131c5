// Standby routes: for each LUN the hosts that can carry others' requests to it, in the order in which they are to be asked.
// Pushed to all hosts in the map ahead of need, so that a host redirects at once, the coordinator away or not. The volume's
// owner comes first; the others keep the order they have, since a list that is reshuffled with every beat moves load about.

import type { ClusterMapRoute } from '@stellwerk/protocol/messages/cluster.ts'
import { isExternal } from './external.ts'
import { silentAfterMs } from './hosts.ts'
import type { CoordinatorState } from './state.ts'

/** A route's peers in their order; the first `able` of them can carry, as far as is known. */
export interface Route {
  readonly storage: string
  readonly lun: string
  readonly owner: string | null
  readonly peers: readonly string[]
  readonly able: number
}

/** By `storage/lun`. */
export type Routes = ReadonlyMap<string, Route>
export const NO_ROUTES: Routes = new Map()

/** What is known of a host as a carrier for one storage. */
export type Standing =
  /** It has a direct path, as it says. */
  | 'able'
  /** It is not heard, or had a path a moment ago: it keeps its place. */
  | 'unknown'
  /** It has none. */
  | 'unable'

export interface RouteQuestion {
  readonly storage: string
  readonly lun: string
  readonly owner: string | null
  /** All hosts that may be asked, sorted. */
  readonly hosts: readonly string[]
  readonly standing: (host: string) => Standing
}

/**
 * The route as it is now; the very same one if nothing has changed. Everybody is on it, those who are not able to at its
 * end: the coordinator may be away when one of them has a path again.
 */
export function routeOf(question: RouteQuestion, before: Route | undefined): Route {
  const { storage, lun, owner, hosts, standing } = question
  const usual = before?.peers.filter(host => hosts.includes(host)) ?? []
  const fresh = hosts.filter(host => !usual.includes(host))
  // New ones begin at another place for each LUN, so that not all LUNs burden the same peer.
  const start = fresh.length === 0 ? 0 : spread(`${storage}/${lun}`) % fresh.length
  const all = [...usual, ...fresh.slice(start), ...fresh.slice(0, start)]
  const tail = before === undefined ? 0 : before.peers.length - before.able
  const wasUnable = new Set(tail === 0 ? [] : before?.peers.slice(-tail))
  const isAble = (host: string): boolean => {
    const is = standing(host)
    return is === 'able' || (is === 'unknown' && !wasUnable.has(host))
  }
  const able = all.filter(isAble)
  if (owner !== null && able.includes(owner) && (before?.owner !== owner || wasUnable.has(owner))) {
    able.splice(able.indexOf(owner), 1)
    able.unshift(owner)
  }
  const peers = [...able, ...all.filter(host => !able.includes(host))]
  if (before?.owner === owner && before.able === able.length && sameList(before.peers, peers)) return before
  return { storage, lun, owner, peers, able: able.length }
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, i) => each === b[i])
}

function spread(text: string): number {
  let hash = 0
  for (let i = 0; i < text.length; i += 1) hash = (hash * 31 + text.charCodeAt(i)) >>> 0
  return hash
}

/** Brings the state's routes up to date; the map is new if one of them has changed. */
export function followRoutes(state: CoordinatorState, now: number): void {
  const hosts = [...state.hosts.values()].filter(host => !host.removed).map(({ name }) => name)
  hosts.sort()
  let changed = false
  const next = new Map<string, Route>()
  for (const { legs, owner, phase } of state.volumes.values()) {
    if (phase === 'creating' || phase === 'deleting') continue
    for (const { storage, lun } of legs) {
      // Nothing there would refuse what a carrier still has when its host is gone.
      if (isExternal(state, storage)) continue
      const key = `${storage}/${lun}`
      const before = state.routes.get(key)
      const standing = (host: string): Standing => standingOf(state, host, storage, now)
      const route = routeOf({ storage, lun, owner: owner?.host ?? null, hosts, standing }, before)
      next.set(key, route)
      if (route !== before) changed = changed || before === undefined || !sameList(before.peers, route.peers)
    }
  }
  changed = changed || next.size !== state.routes.size
  state.routes = next
  if (changed) state.mapVersion += 1
}

/** Its own word that it reaches nothing, or its silence, and only after it has lasted a little. */
function standingOf(state: CoordinatorState, name: string, storage: string, now: number): Standing {
  const host = state.hosts.get(name)
  if (host === undefined) return 'unable'
  const live = state.liveHosts.get(name)
  const atMost = silentAfterMs(state)
  const silentMs = now - (live?.lastBeatAt ?? state.startedAt)
  if (live === undefined || live.verdict === 'gone') return silentMs > atMost ? 'unable' : 'unknown'
  if (live.verdict !== 'up') return 'unknown'
  if (live.reachableStorages.includes(storage)) return 'able'
  const since = live.unreachedSince.get(storage)
  return since !== undefined && now - since > atMost ? 'unable' : 'unknown'
}

export function mapRoutes(routes: Routes): ClusterMapRoute[] {
  return [...routes.values()]
    .map(({ storage, lun, peers }) => ({ storage, lun, peers: [...peers] }))
    .sort((a, b) => (`${a.storage}/${a.lun}` < `${b.storage}/${b.lun}` ? -1 : 1))
}
