// The whole of what operators see at once. Pure: the coordinator's state and the time in, plain values out.

import { isTaken, whyNotTaken } from '../core/announce.ts'
import { isExport } from '../core/exports.ts'
import type { CoordinatorState } from '../core/state.ts'
import { canLose } from './can-lose.ts'
import { hostView, lookAt, pathViews, sortedHosts } from './hosts.ts'
import type { Status, Usage, VmView, VolumeView } from './schemas.ts'
import { storageViews } from './storages.ts'
import { vmView } from './vms.ts'
import { volumeView } from './volumes.ts'

/** What the owner of a volume said last of how full it is, if it was asked. */
export type UsageOf = (volume: string) => Usage | null

export function statusOf(current: CoordinatorState, now: number, usageOf: UsageOf = () => null): Status {
  const state = lookAt(current)
  const { cluster, term, settings } = state.cluster
  return {
    cluster: {
      ...{ name: cluster, term, uptimeMs: now - state.startedAt, halted: state.halted },
      undecided: isTaken(state) ? null : whyNotTaken(state),
      settings: { ...settings },
    },
    canLose: canLose(state),
    hosts: byName(sortedHosts(state).map(host => hostView(state, host, now))),
    vms: byName(vmViews(state, now)),
    volumes: byName(volumeViews(state, now, usageOf)),
    storages: byName(storageViews(state)),
    paths: pathViews(state, now),
  }
}

export function vmViews(state: CoordinatorState, now: number): VmView[] {
  const vms = [...state.vms.values()].filter(vm => !isExport(vm))
  return vms.map(vm => vmView(state, vm, now)).sort((a, b) => (a.name < b.name ? -1 : 1))
}

export function volumeViews(state: CoordinatorState, now: number, usageOf: UsageOf): VolumeView[] {
  return [...state.volumes.values()]
    .map(volume => volumeView(state, volume, usageOf(volume.name), now))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

function byName<V extends { readonly name: string }>(views: readonly V[]): Record<string, V> {
  return Object.fromEntries(views.map(view => [view.name, view]))
}
