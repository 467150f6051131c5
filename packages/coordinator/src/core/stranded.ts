// A host that is heard, but has no way left to the storage of some of its VMs, neither over a path of its own nor over a peer: the
// last rungs of the storage-loss ladder (DESIGN section 7, ADR 41). What those have in flight may still arrive, so they cannot be moved:
// the host is fenced, as one that is isolated, and they start again where there is a way. Before that its other VMs are moved live.

import { whyNotCpu } from './cpu-baseline.ts'
import { isExport } from './exports.ts'
import { beginFencing } from './fencing.ts'
import { hostLive, isUsable, isWanted, storagesOf, vmsAt } from './hosts.ts'
import { abortedMoves, forgetMoved, isMovable, moveAway, reasonOf, SERVES_AN_EXPORT } from './live-moves.ts'
import type { StepOutput } from './output.ts'
import { memoryPlaced, whyNot } from './placement.ts'
import { isQuarantined, noteFailure } from './quarantine.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** Migrations of a VM that are aborted before it counts as one that cannot be moved. */
const TRIES_MAX = 3

/** Counts the time for which another host could have had a VM that cannot go on; then moves the others away, and fences it. */
export function leaveIfStranded(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  const live = hostLive(state, host.name)
  // Asked of every host at every tick: most have a way to everything.
  const mayWait = isUsable(state, host) && live.access.some(each => each.state === 'paused')
  const waiting = mayWait ? waitingAt(state, host) : new Map<VmRecord, string[]>()
  const able = [...waiting.keys()].filter(vm => couldGoElsewhere(state, host, vm))
  if (able.length === 0) {
    if (live.stranded !== null && live.stranded.host !== 'counted') strandOver(state, host, waiting.size, out)
    live.stranded = null
    return
  }
  live.stranded ??= { since: now, fromSeq: state.decisionSeq, host: 'counted' }
  const lastsMs = now - live.stranded.since
  if (lastsMs < state.cluster.settings.isolatedMs) return
  const lost = [...new Set([...waiting.values()].flat())].sort().join(', ')
  const forSeconds = `for ${Math.round(lastsMs / 1000)} s`
  const others = vmsAt(state, host.name).filter(vm => !waiting.has(vm))
  if (others.length > 0) {
    const saw = { waiting: [...waiting.keys()].map(vm => vm.name), others: others.map(vm => vm.name) }
    leave(state, host, { able, others }, { saw, lost, forSeconds }, now, out)
    return
  }
  live.stranded = null
  const why = `it has had no way to ${lost} ${forSeconds}, and its VMs can have one elsewhere`
  noteFailure(state, host, live.incarnation ?? 0, why, now, out)
  beginFencing(state, state.hosts.get(host.name) ?? host, why, null, out)
}

/** Moves the others away, if there is a place for each of them, and still one for a VM that waits. */
function leave(
  state: CoordinatorState,
  host: HostRecord,
  { able, others }: { readonly able: readonly VmRecord[]; readonly others: readonly VmRecord[] },
  { saw, lost, forSeconds }: { readonly saw: object; readonly lost: string; readonly forSeconds: string },
  now: number,
  out: StepOutput,
): void {
  const live = hostLive(state, host.name)
  forgetMoved(state, host.name)
  const places = placesFor(state, host, able, others)
  const becomes = places === null ? 'kept' : 'left'
  if (live.stranded !== null && live.stranded.host !== becomes) {
    live.stranded = { ...live.stranded, host: becomes }
    if (places !== null) live.whyNotMoved.clear()
    out.decide({
      kind: 'strand',
      subject: host.name,
      saw: { ...saw, places: places === null ? null : Object.fromEntries(places) },
      chose: places === null ? 'leave all where it is' : 'move its other VMs away, then fence it',
      why:
        `some of its VMs have had no way to ${lost} ${forSeconds}, and can have one elsewhere` +
        (places === null ? ', but not all of the others can' : ''),
    })
  }
  if (places === null) return
  for (const vm of others) moveAway(state, host, vm, { purpose: 'strand', to: places.get(vm.name) ?? null }, now, out)
}

function strandOver(state: CoordinatorState, host: HostRecord, waiting: number, out: StepOutput): void {
  if (host.drain === undefined) hostLive(state, host.name).whyNotMoved.clear()
  out.decide({
    kind: 'strand-over',
    subject: host.name,
    saw: { waiting },
    chose: 'leave all where it is',
    why:
      waiting === 0 ? 'its VMs have a way to their storage again' : 'no other host could take one that waits any more',
  })
}

/**
 * A host for each of the others that can be moved at this moment, beside a VM that waits, which is to find its place there first. Null:
 * there is none for one of them; which one, and why, is noted.
 */
function placesFor(
  state: CoordinatorState,
  host: HostRecord,
  able: readonly VmRecord[],
  others: readonly VmRecord[],
): Map<string, string> | null {
  const { whyNotMoved } = hostLive(state, host.name)
  const taken = new Map<string, number>()
  /** Null: it is placed. */
  const place = (vm: VmRecord, why: (other: HostRecord) => string | null, places?: Map<string, string>) => {
    const rejected: string[] = []
    for (const other of [...state.hosts.values()].sort((a, b) => loadOf(state, a, taken) - loadOf(state, b, taken))) {
      if (other.name === host.name) continue
      const free = other.memoryBytes - memoryPlaced(state, other.name) - (taken.get(other.name) ?? 0)
      const no = why(other) ?? (free < vm.spec.memoryBytes ? 'it would be full, with what waits for its storage' : null)
      if (no !== null) {
        rejected.push(`${other.name}: ${no}`)
        continue
      }
      taken.set(other.name, (taken.get(other.name) ?? 0) + vm.spec.memoryBytes)
      places?.set(vm.name, other.name)
      return null
    }
    return `no other host can take it: ${rejected.join('; ')}`
  }
  const [first] = able
  if (first !== undefined) {
    const why = (other: HostRecord): string | null => whyNotWaiting(state, host, first, other)
    // As when it is started: in quarantine only where nobody else fits.
    if (place(first, other => inQuarantine(other) ?? why(other)) !== null) place(first, why)
  }
  const places = new Map<string, string>()
  let isStuck = false
  for (const vm of [...others].sort((a, b) => b.spec.memoryBytes - a.spec.memoryBytes)) {
    if (!isExport(vm) && !isMovable(state, host, vm)) continue
    const fits = (other: HostRecord): string | null =>
      inQuarantine(other) ?? whyNot(state, vm, other) ?? whyNotCpu(state, vm, other)
    const why = isExport(vm) ? SERVES_AN_EXPORT : (whyInVain(state, host, vm) ?? place(vm, fits, places))
    if (why === null) continue
    isStuck = true
    whyNotMoved.set(vm.name, why)
  }
  return isStuck ? null : places
}

const inQuarantine = (host: HostRecord): string | null => (isQuarantined(host) ? 'it is in quarantine' : null)

/** A guest that never converges is not waited for. */
function whyInVain(state: CoordinatorState, host: HostRecord, vm: VmRecord): string | null {
  const fromSeq = hostLive(state, host.name).stranded?.fromSeq ?? 0
  const aborted = abortedMoves(state, host.name, vm.name).filter(each => each.seq > fromSeq)
  const [last] = aborted
  if (last === undefined || aborted.length < TRIES_MAX) return null
  return `${aborted.length} migrations of it were aborted, the last one because: ${reasonOf(last)}`
}

function loadOf(
  state: CoordinatorState,
  { name, memoryBytes }: HostRecord,
  taken: ReadonlyMap<string, number>,
): number {
  return (memoryPlaced(state, name) + (taken.get(name) ?? 0)) / memoryBytes
}

/** What is here and cannot go on, and the storages that each waits for. */
function waitingAt(state: CoordinatorState, host: HostRecord): Map<VmRecord, string[]> {
  const found = new Map<VmRecord, string[]>()
  for (const vm of vmsAt(state, host.name)) {
    // One that is only being received waits at its source, if at all.
    const missing = vm.placement?.host === host.name ? withoutWay(state, host, vm) : []
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
function couldGoElsewhere(state: CoordinatorState, host: HostRecord, vm: VmRecord): boolean {
  if (isExport(vm) || !isWanted(state, vm)) return false
  return [...state.hosts.values()].some(other => whyNotWaiting(state, host, vm, other) === null)
}

function whyNotWaiting(state: CoordinatorState, host: HostRecord, vm: VmRecord, other: HostRecord): string | null {
  if (other.name === host.name) return 'it is the one to leave'
  const no = whyNot(state, vm, other)
  if (no !== null) return no
  const missing = withoutWay(state, other, vm)
  return missing.length === 0 ? null : `it has no way to ${missing.join(', ')} either`
}
