// Taking a host's right to write away, and giving it a new one: fence, wait, recover, admit.

import { leaseWaitMs } from '@stellwerk/protocol/settings.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { endUnwanted, isAdoptable, placedBefore, placeSurvivors } from './adoption.ts'
import { shouldAsk } from './asking.ts'
import {
  externalsOfVm,
  externalsWrittenBy,
  isExternal,
  isSilentAt,
  noteSilence,
  openExternals,
  orderedNames,
  orderedStorages,
  whyDead,
} from './external.ts'
import { hostLive, storagesOf, vmsAt, volumesOf } from './hosts.ts'
import type { Attestation } from './membership.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, FenceRecord, HostRecord, Placement, VmRecord, VolumeLive } from './state.ts'

/** From now on, durably, no lease is granted to the host, and storages are told to refuse its epoch. */
export function beginFencing(
  state: CoordinatorState,
  host: HostRecord,
  why: string,
  attested: Attestation | null,
  out: StepOutput,
): void {
  const vms = vmsAt(state, host.name)
  const storages = [
    ...new Set([...vms.flatMap(vm => storagesOf(state, vm)), ...externalsWrittenBy(state, host)]),
  ].sort()
  const incarnation = newestKnown(state, host)
  const needed = canary('fence-missing-leg') ? storages.slice(0, -1) : storages
  const volumes = [...new Set(vms.flatMap(volumesOf))].sort()
  const fence: FenceRecord = {
    why,
    needed,
    volumes,
    acknowledged: [],
    attestedIncarnation: attested?.incarnation ?? null,
    attestedBy: attested?.by ?? null,
    ...(attested === null || attested.survivors.length === 0 ? {} : { survivors: attested.survivors }),
    ...(incarnation === null ? {} : { newestIncarnation: incarnation }),
  }
  out.put('hosts', host.name, { ...host, phase: 'fencing', fence })
  // No virtual switch is to hear it any more.
  if (host.guest !== undefined) state.mapVersion += 1
  for (const volume of volumes) {
    const key = `${volume}/${host.name}/${host.epoch}`
    out.put('recoveries', key, { volume, host: host.name, hostEpoch: host.epoch })
  }
  hostLive(state, host.name).clean = false
  hostLive(state, host.name).ended = false
  hostLive(state, host.name).fencingSince = null
  hostLive(state, host.name).silentSince = null
  hostLive(state, host.name).seenAt.clear()
  out.decide({
    kind: 'fence',
    subject: host.name,
    saw: { epoch: host.epoch, verdict: hostLive(state, host.name).verdict, vms: vms.map(vm => vm.name), needed },
    chose: `fence epoch ${host.epoch}`,
    why,
  })
}

/** The newest agent that has had this epoch, as far as is known: heard of in this run, or given a VM. */
function newestKnown(state: CoordinatorState, host: HostRecord): number | null {
  const placements = vmsAt(state, host.name).flatMap(({ placement }) => placement ?? [])
  const given = placements.flatMap(({ hostEpoch, incarnation }) => (hostEpoch === host.epoch ? [incarnation] : []))
  const known = [...given, ...[hostLive(state, host.name).incarnation].filter(each => each !== null)]
  return known.length === 0 ? null : Math.max(...known)
}

/** Pushes every fence and admission forward. */
export function workOnFences(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const { name } of [...state.hosts.values()]) {
    noteSilence(state, state.hosts.get(name)!, now, out)
    const host = state.hosts.get(name)!
    switch (host.phase) {
      case 'fencing':
        orderFence(state, host, now, out)
        completeFence(state, state.hosts.get(host.name) ?? host, out)
        break
      case 'fenced':
        // Whatever answers late is told: a leg is not resynced before.
        orderFence(state, host, now, out)
        admitAgain(state, host, now, out)
        break
      case 'admitting':
        orderAdmit(state, host, now, out)
        break
      case 'admitted':
        endUnwanted(state, host, now, out)
        if (host.admitOwed.length > 0) orderAdmit(state, host, now, out)
        break
    }
  }
}

function orderFence(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  const { requestMs } = state.cluster.settings
  for (const storage of orderedNames(state)) {
    if (host.fence?.acknowledged.includes(storage)) continue
    const key = `fence/${host.name}/${host.epoch}/${storage}`
    if (!shouldAsk(state, key, now, requestMs)) continue
    const body = { host: host.name, epoch: host.epoch, term: state.cluster.term }
    out.effect({ kind: 'storage', key, storage, message: 'storage.fence', body })
  }
}

/** A storage refuses the epoch from now on; `lastSeenMs` is the age of the host's last sign there, null if unknown. */
export function fenceAcknowledged(
  state: CoordinatorState,
  name: string,
  epoch: number,
  storage: string,
  lastSeenMs: number | null,
  now: number,
  out: StepOutput,
): void {
  const host = state.hosts.get(name)
  if (host === undefined || host.epoch !== epoch || host.fence === null) return
  if (!hostLive(state, name).seenAt.has(storage)) hostLive(state, name).seenAt.set(storage, now - (lastSeenMs ?? 0))
  if (host.fence.acknowledged.includes(storage)) return
  const acknowledged = [...host.fence.acknowledged, storage].sort()
  out.put('hosts', name, { ...host, fence: { ...host.fence, acknowledged } })
  completeFence(state, state.hosts.get(name) ?? host, out)
}

/**
 * Those that must acknowledge, for these of the volumes that the host had open (absent: for all). A storage all of whose legs of
 * them have been given up holds nothing up; what has no epochs is waited for by each VM and volume that is there, and by no other.
 * After a restore it is not known which the host had open: whatever counts anywhere must, and all while that is not known either.
 */
function neededOf(state: CoordinatorState, fence: FenceRecord, volumes?: readonly string[]): string[] {
  const able = fence.needed.filter(storage => !isExternal(state, storage))
  const known = [...state.volumes.values()]
  if (fence.restored === true && known.some(({ unsure }) => unsure)) return able
  const open = fence.restored === true ? known : known.filter(({ name }) => (volumes ?? fence.volumes).includes(name))
  return able.filter(storage =>
    open.some(({ legs }) => legs.some(leg => leg.storage === storage && leg.role !== 'stale')),
  )
}

/** Those of them that have not acknowledged it. */
export function fencesOwed(state: CoordinatorState, fence: FenceRecord, volumes?: readonly string[]): string[] {
  return neededOf(state, fence, volumes).filter(storage => !fence.acknowledged.includes(storage))
}

/**
 * Nothing can be written to these volumes under the host's old epoch any more, where that is enforced. It may be so before the fence
 * is complete: a storage that is away holds up only what is on it.
 */
export function isFencedOn(state: CoordinatorState, { phase, fence }: HostRecord, volumes: readonly string[]): boolean {
  if (fence === null || (phase !== 'fencing' && phase !== 'fenced')) return false
  return fencesOwed(state, fence, volumes).length === 0
}

function completeFence(state: CoordinatorState, host: HostRecord, out: StepOutput): void {
  const fence = host.fence
  if (host.phase !== 'fencing' || fence === null) return
  if (fencesOwed(state, fence).length > 0) return
  out.put('hosts', host.name, { ...host, phase: 'fenced' })
  const open = openExternals(state, fence)
  const saw = { epoch: host.epoch, acknowledged: fence.acknowledged }
  if (open.length === 0) {
    out.decide({
      kind: 'fenced',
      subject: host.name,
      saw,
      chose: 'nothing of this epoch can be written any more',
      why: 'every leg of every volume it had open has acknowledged the fence',
    })
    return
  }
  out.decide({
    kind: 'fenced',
    subject: host.name,
    saw: { ...saw, withoutEpochs: open },
    chose: `nothing of this epoch can be written any more, but on ${open.join(', ')}`,
    why: `every leg that knows epochs has acknowledged the fence; ${open.join(', ')} knows none: what is there waits, ${whyDead(state, host) ?? 'until the death of its agent is attested'}`,
  })
}

/**
 * When an instance placed at a fenced host is surely dead: at once if attested or the agent says that it killed all;
 * otherwise when every lease it may have held is over by its own clock. Null: cannot be told yet. Where a storage of the VM
 * has no epochs no time is enough: a host that was only paused would go on where it was.
 */
export function deadAt(
  state: CoordinatorState,
  host: HostRecord,
  vm: VmRecord,
  placement: Placement,
): { at: number; attested: boolean } | null {
  const fence = host.fence
  const volumes = volumesOf(vm)
  if (fence === null || !isFencedOn(state, host, volumes)) return null
  if (!isSilentAt(fence, externalsOfVm(state, vm))) return null
  if (isAttestedDead(fence, vm.name, placement) || hostLive(state, host.name).clean) {
    return { at: Number.NEGATIVE_INFINITY, attested: true }
  }
  const at = leasesOverAt(state, host, fence, volumes)
  return at === null ? null : { at, attested: false }
}

/** Somebody who knows says that nothing of the VM's machine there is left. */
export function isAttestedDead(fence: FenceRecord, vm: string, { incarnation }: Placement): boolean {
  if (fence.attestedIncarnation === null || incarnation > fence.attestedIncarnation) return false
  return canary('survivors-unheard') || fence.survivors?.includes(vm) !== true
}

/**
 * After a restore from a copy: a host on which any VM may still run. The copy may be older than a VM's last move, so it is
 * not enough that the host is surely dead where the copy has it.
 */
export function unsettledByRestore(
  state: CoordinatorState,
  now: number,
): { readonly host: string; readonly at: number | null } | null {
  for (const host of state.hosts.values()) {
    const { fence } = host
    if (fence?.restored !== true || hostLive(state, host.name).clean) continue
    const at = host.phase === 'fenced' ? leasesOverAt(state, host, fence) : null
    if (at === null || now < at) return { host: host.name, at }
  }
  return null
}

/**
 * When every lease that the host may have held for these of its volumes (absent: for all) is over by its own clock; null: cannot be
 * told yet.
 */
function leasesOverAt(
  state: CoordinatorState,
  host: HostRecord,
  fence: FenceRecord,
  volumes?: readonly string[],
): number | null {
  const live = hostLive(state, host.name)
  let last = canary('wait-without-last-grant') ? Number.NEGATIVE_INFINITY : live.lastGrantAt
  const needed = neededOf(state, fence, volumes)
  for (const storage of needed) {
    // A storage whose answer was heard by an earlier run of this process: unknown, so it counts as seen until our start.
    last = Math.max(last, live.seenAt.get(storage) ?? state.startedAt)
  }
  // In an older generation it may run by legs of which none is among these: until their storages had been raised to this one.
  for (const volume of fence.volumes.filter(name => volumes?.includes(name) !== false)) {
    const { generation, generationOwed } = state.volumes.get(volume) ?? { generation: 0, generationOwed: [] }
    if (generation === 0) continue
    if (generationOwed.length > 0) return null
    const told = state.liveVolumes.get(volume)
    const raisedAt = told !== undefined && runsBy(told.countedBefore, needed) ? told.olderToldAt : told?.toldAt
    last = Math.max(last, raisedAt ?? state.startedAt)
  }
  return last + leaseWaitMs(state.cluster.settings)
}

/** A host whose leases rest on any of these lists of storages needs the answers of one of `refusing`, too, and gets none. */
export function runsBy(counted: VolumeLive['countedBefore'], refusing: readonly string[]): boolean {
  return counted.every(storages => storages.some(storage => refusing.includes(storage)))
}

/** A fenced host that is back and runs nothing but what it takes over gets a new epoch, once nothing of the old one is left to settle. */
function admitAgain(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  const live = hostLive(state, host.name)
  if (host.removed || live.session === null || !live.ended || endUnwanted(state, host, now, out)) return
  // What it had sent to where no epoch tells the old from the new.
  if (host.fence !== null && openExternals(state, host.fence).length > 0) return
  const placed = placedBefore(state, host)
  if (!placed.every(vm => isAdoptable(state, host, vm))) return
  const admitted: HostRecord = {
    ...host,
    phase: 'admitting',
    epoch: host.epoch + 1,
    givenTo: live.session.incarnation,
    fence: null,
    admitOwed: orderedNames(state),
  }
  out.put('hosts', host.name, admitted)
  live.clean = false
  live.ended = false
  out.decide({
    kind: 'admit',
    subject: host.name,
    saw: { epoch: host.epoch, incarnation: live.session.incarnation },
    chose: `admit at epoch ${admitted.epoch}`,
    why: `its agent is back and reported that nothing ${placed.length === 0 ? '' : 'else '}runs there`,
  })
  placeSurvivors(state, admitted, placed, out)
  orderAdmit(state, admitted, now, out)
}

/** A storage that gets a leg may be another in the place of a lost one: it is told anew which hosts are admitted. */
export function oweEpochs(state: CoordinatorState, storage: string, out: StepOutput): void {
  if (isExternal(state, storage)) return
  for (const host of [...state.hosts.values()]) {
    if (host.phase !== 'admitted' && host.phase !== 'admitting') continue
    if (host.admitOwed.includes(storage)) continue
    out.put('hosts', host.name, { ...host, admitOwed: [...host.admitOwed, storage].sort() })
  }
}

function orderAdmit(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  if (host.admitOwed.length === 0) {
    finishAdmit(state, host, out)
    return
  }
  for (const storage of host.admitOwed) {
    const key = `admit/${host.name}/${host.epoch}/${storage}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    const body = { host: host.name, epoch: host.epoch, term: state.cluster.term }
    out.effect({ kind: 'storage', key, storage, message: 'storage.admit', body })
  }
}

/**
 * One storage knows the epoch. The host is admitted when it is known to one at least, and the others do not answer:
 * these are told when they are back, and until then its paths there stay shut.
 */
export function admitAnswered(
  state: CoordinatorState,
  name: string,
  epoch: number,
  storage: string,
  answer: { readonly admitted: number; readonly fenced: number } | null,
  out: StepOutput,
): void {
  const ok = answer !== null && answer.fenced < epoch
  const host = state.hosts.get(name)
  if (host === undefined || host.epoch !== epoch || (host.phase !== 'admitting' && host.phase !== 'admitted')) return
  if (ok && host.admitOwed.includes(storage)) {
    out.put('hosts', name, { ...host, admitOwed: host.admitOwed.filter(owed => owed !== storage) })
  }
  const current = state.hosts.get(name) ?? host
  const answeredOnce = orderedStorages(state).length - current.admitOwed.length
  if (answeredOnce > 0 && current.phase === 'admitting' && (!ok || current.admitOwed.length === 0)) {
    finishAdmit(state, current, out)
  }
}

function finishAdmit(state: CoordinatorState, host: HostRecord, out: StepOutput): void {
  if (host.phase !== 'admitting') return
  out.put('hosts', host.name, { ...host, phase: 'admitted' })
  out.trace({
    level: 'decision',
    kind: 'host.admitted',
    host: host.name,
    body: { epoch: host.epoch, owed: [...host.admitOwed] },
  })
  state.mapVersion += 1
}
