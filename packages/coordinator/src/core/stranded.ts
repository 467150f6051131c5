// A host that is heard, but has no way left to the storage of some of its VMs, neither over a path of its own nor over a peer: the
// last rungs of the storage-loss ladder (DESIGN section 7). What those have in flight may still arrive, so they cannot be moved: the
// host is fenced, as one that is isolated, and they start again where there is a way. Before that its other VMs are moved live.

import { moveAway } from './drains.ts'
import { isExport } from './exports.ts'
import { beginFencing } from './fencing.ts'
import { hostLive, isUsable, isWanted, storagesOf, vmsAt } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { whyNot } from './placement.ts'
import { noteFailure } from './quarantine.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** Counts the time for which another host could have had a VM that cannot go on; then moves the others away, and fences it. */
export function leaveIfStranded(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  const live = hostLive(state, host.name)
  const waiting = isUsable(state, host) ? waitingAt(state, host) : new Map<VmRecord, string[]>()
  if (!couldGoElsewhere(state, host, [...waiting.keys()])) {
    live.stranded = null
    return
  }
  live.stranded ??= { since: now, told: false }
  const lastsMs = now - live.stranded.since
  if (lastsMs < state.cluster.settings.isolatedMs) return
  const lost = [...new Set([...waiting.values()].flat())].sort()
  const forSeconds = `for ${Math.round(lastsMs / 1000)} s`
  const others = vmsAt(state, host.name).filter(vm => !waiting.has(vm))
  if (others.length > 0) {
    if (!live.stranded.told) {
      live.stranded = { ...live.stranded, told: true }
      out.decide({
        kind: 'strand',
        subject: host.name,
        saw: { waiting: [...waiting.keys()].map(vm => vm.name), others: others.map(vm => vm.name) },
        chose: 'move its other VMs away, then fence it',
        why: `some of its VMs have had no way to ${lost.join(', ')} ${forSeconds}, and can have one elsewhere`,
      })
    }
    moveAway(state, host, others, 'stranded', now, out)
    return
  }
  live.stranded = null
  const why = `it has had no way to ${lost.join(', ')} ${forSeconds}, and its VMs can have one elsewhere`
  noteFailure(state, host, live.incarnation ?? 0, why, now, out)
  beginFencing(state, state.hosts.get(host.name) ?? host, why, null, out)
}

/** What is here and cannot go on, and the storages that each waits for. */
function waitingAt(state: CoordinatorState, host: HostRecord): Map<VmRecord, string[]> {
  const found = new Map<VmRecord, string[]>()
  for (const vm of vmsAt(state, host.name)) {
    const missing = withoutWay(state, host, vm)
    if (missing.length > 0) found.set(vm, missing)
  }
  return found
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
function couldGoElsewhere(state: CoordinatorState, host: HostRecord, waiting: readonly VmRecord[]): boolean {
  return waiting.some(
    vm =>
      !isExport(vm) &&
      isWanted(state, vm) &&
      [...state.hosts.values()].some(
        other =>
          other.name !== host.name && whyNot(state, vm, other) === null && withoutWay(state, other, vm).length === 0,
      ),
  )
}
