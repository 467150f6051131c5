// The cluster's map as agents get it, and who has to be sent it.

import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import { shouldAsk } from './asking.ts'
import { mapForwards } from './lasting-forwards.ts'
import type { StepOutput } from './output.ts'
import { mapRoutes } from './routes.ts'
import type { CoordinatorState, VolumeRecord } from './state.ts'

export function mapOf(state: CoordinatorState): ClusterMap {
  if (state.map?.version === state.mapVersion) return state.map
  const { cluster, term, settings } = state.cluster
  const forwards = mapForwards(state)
  state.map = {
    cluster,
    term,
    version: state.mapVersion,
    settings,
    hosts: sorted(state.hosts)
      .filter(host => !host.removed)
      .map(({ name, epoch, control, disabledFabrics, guest, fence }) => ({
        name,
        epoch,
        control,
        disabled: [...disabledFabrics],
        ...(guest === undefined ? {} : { guest, ...(fence === null ? {} : { fenced: true as const }) }),
      })),
    storages: sorted(state.storages).map(({ name, portals, control, external }) => ({
      name,
      portals: [...portals],
      control: [...control],
      ...(external === undefined ? {} : { external }),
    })),
    volumes: sorted(state.volumes)
      .filter(volume => volume.phase !== 'creating' && !volume.unsure)
      .map(volume => ({
        name: volume.name,
        id: volume.id,
        sizeBytes: volume.sizeBytes,
        legs: volume.legs.map(({ leg, storage, lun, index, role, lastInSync }) => ({
          leg,
          storage,
          lun,
          index,
          role,
          lastInSync,
        })),
        generation: volume.generation,
        owner: volume.owner,
        format: volume.phase === 'formatting',
        pathPolicy: volume.pathPolicy,
        ...forcedOf(volume),
        ...(volume.phase === 'deleting' ? { deleted: true as const } : {}),
      })),
    routes: mapRoutes(state.routes),
    ...(forwards === undefined ? {} : { forwards }),
  }
  return state.map
}

function forcedOf({ forced }: VolumeRecord): { forced?: number; emptySlots?: true } {
  if (forced === undefined) return {}
  return { forced: forced.times, ...(forced.opened ? {} : { emptySlots: true }) }
}

function sorted<R extends { readonly name: string }>(records: ReadonlyMap<string, R>): R[] {
  return [...records.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Sends the map to every agent that is not known to have this version. */
export function spreadMap(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const [host, live] of state.liveHosts) {
    if (live.session === null) continue
    if (live.mapVersion === state.mapVersion) continue
    const key = mapKey(state, host, live.session.incarnation)
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    out.effect({ kind: 'order', key, host, message: 'cluster.map', body: mapOf(state) })
  }
}

function mapKey(state: CoordinatorState, host: string, incarnation: number): string {
  return `map/${host}/${incarnation}/${state.mapVersion}`
}
