// Hosts and their paths as operators see them. Pure. Unknown is not down: what was never heard, or long ago, says so.

import { cpuText } from '@stellwerk/protocol/cpu-levels.ts'
import { isExternal } from '../core/external.ts'
import { newHostLive, silentAfterMs, vmsAt } from '../core/hosts.ts'
import { leftAt } from '../core/live-moves.ts'
import { memoryPlaced } from '../core/placement.ts'
import { calendar, quarantineLeftMs } from '../core/quarantine.ts'
import type { CoordinatorState, HostLive, HostRecord } from '../core/state.ts'
import { accessOfHost } from './access.ts'
import { formatHostPort } from './format-address.ts'
import type { HostView, PathView } from './schemas.ts'

/** A read that leaves no trace in the state. */
export function liveOf(state: CoordinatorState, host: string): HostLive {
  return state.liveHosts.get(host) ?? newHostLive(state)
}

/** The state to look at: what the core's own functions make when they first look for a host stays in this copy. */
export function lookAt(state: CoordinatorState): CoordinatorState {
  return { ...state, liveHosts: new Map(state.liveHosts) }
}

export function ageOfHost(state: CoordinatorState, host: string, now: number): number | null {
  const at = liveOf(state, host).lastBeatAt
  return at === null ? null : Math.max(0, now - at)
}

/** Heard of recently enough that what it said last may be called its present state. */
export function isFresh(state: CoordinatorState, host: string, now: number): boolean {
  const ageMs = ageOfHost(state, host, now)
  return ageMs !== null && ageMs <= silentAfterMs(state)
}

export function hostState(state: CoordinatorState, host: HostRecord): string {
  if (host.phase !== 'admitted') return host.phase
  const live = liveOf(state, host.name)
  switch (live.verdict) {
    case 'up':
      if (live.session !== null && host.drain !== undefined)
        return vmsAt(state, host.name).length > 0 ? 'draining' : 'drained'
      // Its link has just ended; whether the host has, the next beats will tell.
      return live.session === null ? 'suspect' : 'up'
    case 'gone':
      return 'down'
    default:
      return live.verdict
  }
}

/** As `hostState` tells: it is there and does what it is asked, in service or not. */
export function answers(state: string | undefined): boolean {
  return state === 'up' || state === 'draining' || state === 'drained'
}

export function hostView(state: CoordinatorState, host: HostRecord, now: number): HostView {
  const live = liveOf(state, host.name)
  const { fence } = host
  return {
    name: host.name,
    state: hostState(state, host),
    ageMs: ageOfHost(state, host.name, now),
    epoch: host.epoch,
    phase: host.phase,
    verdict: live.verdict,
    connected: live.session !== null,
    incarnation: live.incarnation,
    address: formatHostPort(host.control),
    memoryBytes: host.memoryBytes,
    memoryPlacedBytes: memoryPlaced(state, host.name),
    vms: vmsAt(state, host.name).map(vm => vm.name),
    owns: [...state.volumes.values()]
      .filter(volume => volume.owner?.host === host.name)
      .map(volume => volume.name)
      .sort(),
    storages: [...live.reachableStorages],
    whyNoQemu: live.whyNoQemu,
    cpu: live.cpu === null ? null : cpuText(live.cpu),
    fence:
      fence === null
        ? null
        : {
            why: fence.why,
            needed: [...fence.needed],
            acknowledged: [...fence.acknowledged],
            attestedBy: fence.attestedBy,
          },
    failures: failuresOf(state, host, now),
    quarantine:
      host.quarantine === null ? null : { why: host.quarantine.why, leftMs: quarantineLeftMs(state, host, now) ?? 0 },
    drain: host.drain === undefined ? null : { why: host.drain.why, left: leftAt(state, host.name) },
    whyNotFenced: live.whyNotFenced,
    disabledFabrics: [...host.disabledFabrics],
    access: accessOfHost(state, host.name, now),
  }
}

/** Those young enough to count. */
function failuresOf(state: CoordinatorState, host: HostRecord, now: number): HostView['failures'] {
  const today = calendar(state, now)
  return host.failures
    .map(({ why, atMs }) => ({ why, agoMs: Math.max(0, today - atMs) }))
    .filter(({ agoMs }) => agoMs < state.cluster.settings.quarantineWindowMs)
}

/** Keyed `host/fabric/storage`. A host that is not heard says nothing of its paths any more. */
export function pathViews(state: CoordinatorState, now: number): Record<string, PathView> {
  const views: Record<string, PathView> = {}
  for (const host of sortedHosts(state)) {
    const fresh = isFresh(state, host.name, now)
    for (const path of liveOf(state, host.name).paths) {
      const [fabric = path.path] = path.path.split('/')
      views[`${host.name}/${path.path}`] = {
        host: host.name,
        fabric,
        storage: path.storage,
        state: fresh ? path.state : 'unknown',
        ageMs: ageOfHost(state, host.name, now),
        why: path.why,
        sinceMs: path.sinceMs,
        latencyMs: path.latencyMs,
        queue: path.queue,
        requests: path.requests,
        errors: path.errors,
        via: path.via,
        epochs: !isExternal(state, path.storage),
      }
    }
  }
  return views
}

export function sortedHosts(state: CoordinatorState): HostRecord[] {
  return [...state.hosts.values()].filter(host => !host.removed).sort((a, b) => (a.name < b.name ? -1 : 1))
}
