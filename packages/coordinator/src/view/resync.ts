// How far a volume's leg is that catches up, from what its owner and the hosts that copy have counted. Pure.

import type { CoordinatorState, VolumeRecord } from '../core/state.ts'
import { liveOf, sortedHosts } from './hosts.ts'
import type { VolumeView } from './schemas.ts'

/** Of the bytes that are to be copied, or while nobody knows how many these are, of the disks. 100 only when all is done. */
export function resyncPercent(state: CoordinatorState, volume: VolumeRecord): number {
  const sync = syncOf(state, volume)
  if (sync === null) return 0
  const { done, disks, synced } = sync
  if (done || disks === 0) return 100
  const bytes = resyncView(state, volume)
  const share = bytes === null || bytes.totalBytes === 0 ? synced / disks : bytes.copiedBytes / bytes.totalBytes
  return Math.min(99, Math.floor(share * 100))
}

/** Null: how much there is to copy is not known yet. */
export function resyncView(
  state: CoordinatorState,
  volume: VolumeRecord,
): NonNullable<VolumeView['legs'][number]['resync']> | null {
  const sync = syncOf(state, volume)
  if (sync?.totalBytes === undefined) return null
  const { totalBytes, sinceMs } = sync
  const byHosts = sortedHosts(state).map(({ name }) => liveOf(state, name).resyncs.get(volume.name))
  const counted = byHosts.reduce(
    (sum, copied) => sum + (copied?.generation === volume.generation ? copied.copiedBytes : 0),
    sync.copiedBytes,
  )
  // What is copied twice, after a failure or by a host that took over a disk, counts twice.
  const copiedBytes = Math.min(counted, totalBytes)
  const bytesPerSecond = sinceMs > 0 ? Math.round((copiedBytes * 1000) / sinceMs) : 0
  const leftMs = bytesPerSecond > 0 ? Math.round(((totalBytes - copiedBytes) * 1000) / bytesPerSecond) : null
  return { copiedBytes, totalBytes, bytesPerSecond, leftMs }
}

/** What keeps a leg that catches up from having everything; null: nothing is known to. */
export function resyncWhy(state: CoordinatorState, volume: VolumeRecord): string | null {
  const hosts = sortedHosts(state).map(({ name }) => liveOf(state, name).resyncs.get(volume.name))
  const said = hosts.find(each => each?.generation === volume.generation && each.why !== undefined)
  return said?.why ?? syncOf(state, volume)?.why ?? null
}

function syncOf(state: CoordinatorState, volume: VolumeRecord) {
  const reported = volume.owner === null ? undefined : liveOf(state, volume.owner.host).volumes.get(volume.name)
  return reported?.generation === volume.generation ? reported.sync : null
}
