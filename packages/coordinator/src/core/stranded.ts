// A host that is heard, but has no way left to the storage of its VMs, neither over a path of its own nor over a peer: the last
// rung of the storage-loss ladder (DESIGN section 7). What its VMs have in flight may still arrive, so they are not moved: the
// host is fenced, as one that is isolated, and they start again where there is a way.

import { isExport } from './exports.ts'
import { beginFencing } from './fencing.ts'
import { hostLive, isUsable, isWanted, storagesOf, vmsAt } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { whyNot } from './placement.ts'
import { noteFailure } from './quarantine.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** Counts the time for which another host could have had its VMs, and none of them could go on; then fences it. */
export function fenceIfStranded(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  const live = hostLive(state, host.name)
  const waits = isUsable(state, host) && live.access.some(each => each.state === 'paused')
  const lost = waits ? lostStorages(state, host) : []
  if (lost.length === 0 || !couldGoElsewhere(state, host)) {
    live.strandedSince = null
    return
  }
  live.strandedSince ??= now
  const lastsMs = now - live.strandedSince
  if (lastsMs < state.cluster.settings.isolatedMs) return
  live.strandedSince = null
  const why = `it has had no way to ${lost.join(', ')} for ${Math.round(lastsMs / 1000)} s, and its VMs can have one elsewhere`
  noteFailure(state, host, live.incarnation ?? 0, why, now, out)
  beginFencing(state, state.hosts.get(host.name) ?? host, why, null, out)
}

/** Storages to which everything that is here waits for a way; none, if anything is here that does not wait. */
function lostStorages(state: CoordinatorState, host: HostRecord): string[] {
  const lost = new Set<string>()
  for (const vm of vmsAt(state, host.name)) {
    const missing = withoutWay(state, host, vm)
    if (missing.length === 0) return []
    for (const storage of missing) lost.add(storage)
  }
  return [...lost].sort()
}

/** Storages of the VM's legs that count, which the host has open and no way to. */
function withoutWay(state: CoordinatorState, host: HostRecord, vm: VmRecord): string[] {
  const { access } = hostLive(state, host.name)
  const volumes = new Set(vm.disks.map(disk => disk.volume))
  return storagesOf(state, vm).filter(storage =>
    access.some(each => each.storage === storage && volumes.has(each.volume) && each.state === 'paused'),
  )
}

/** Exports are nobody else's to take. */
function couldGoElsewhere(state: CoordinatorState, host: HostRecord): boolean {
  const waiting = vmsAt(state, host.name).filter(vm => !isExport(vm) && isWanted(state, vm))
  return waiting.some(vm =>
    [...state.hosts.values()].some(
      other =>
        other.name !== host.name && whyNot(state, vm, other) === null && withoutWay(state, other, vm).length === 0,
    ),
  )
}
