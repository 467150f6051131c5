// Storages that are plain NBD servers. They take no orders and refuse nothing: no epoch, session, owner or generation is
// enforced there. What elsewhere rests on the storage's word rests here on this: whoever might still write is known to be
// dead or to have ended, and what it had sent has had its time to arrive. Until then nothing takes its place.

import { canary } from '@stellwerk/runtime/canary.ts'
import { hostLive, vmsAt, volumesOf } from './hosts.ts'
import type { StepOutput } from './output.ts'
import type {
  CoordinatorState,
  FenceRecord,
  HostRecord,
  LeavingOwner,
  OwnerRecord,
  StorageRecord,
  VmRecord,
  VolumeRecord,
} from './state.ts'

export function isExternal(state: CoordinatorState, storage: string): boolean {
  return state.storages.get(storage)?.external !== undefined
}

/** The volume that has this LUN's export already, under the name of a LUN of its own; null: none. */
export function whoHasExport(state: CoordinatorState, storage: string, lun: string): string | null {
  const external = state.storages.get(storage)?.external
  if (external === undefined) return null
  const exportNamed = (name: string): string => external.exports.find(each => each.lun === name)?.export ?? name
  for (const volume of state.volumes.values()) {
    const isIts = [...volume.legs, ...volume.retired].some(
      leg => leg.storage === storage && exportNamed(leg.lun) === exportNamed(lun),
    )
    if (isIts) return volume.name
  }
  return null
}

/** Those that take orders: fences, admissions, generations, LUNs. */
export function orderedStorages(state: CoordinatorState): StorageRecord[] {
  return [...state.storages.values()].filter(storage => storage.external === undefined)
}

/** Names of the ordered ones, sorted. */
export function orderedNames(state: CoordinatorState): string[] {
  return orderedStorages(state)
    .map(({ name }) => name)
    .sort()
}

function externalNames(state: CoordinatorState): string[] {
  return [...state.storages.keys()].filter(name => isExternal(state, name)).sort()
}

/** The external storages on which legs of the volume count, sorted. */
export function externalsOf(state: CoordinatorState, volume: VolumeRecord): string[] {
  const counting = volume.legs.filter(leg => leg.role !== 'stale' && isExternal(state, leg.storage))
  return counting.map(leg => leg.storage).sort()
}

export function externalsOfVm(state: CoordinatorState, vm: VmRecord): string[] {
  const volumes = volumesOf(vm).flatMap(name => state.volumes.get(name) ?? [])
  return [...new Set(volumes.flatMap(volume => externalsOf(state, volume)))].sort()
}

/** External storages that the host may be writing to at its epoch: for its VMs, or as the owner of a volume. */
export function externalsWrittenBy(state: CoordinatorState, host: HostRecord): string[] {
  const names = new Set(vmsAt(state, host.name).flatMap(vm => externalsOfVm(state, vm)))
  for (const volume of state.volumes.values()) {
    const mine = (owner: OwnerRecord | null | undefined) =>
      owner != null && owner.host === host.name && owner.hostEpoch === host.epoch
    if (!mine(volume.owner) && !mine(volume.leaving)) continue
    for (const storage of externalsOf(state, volume)) names.add(storage)
  }
  return [...names].sort()
}

// --- a fenced host -----------------------------------------------------------------------------------------------------------

/** How it is known that no process of the fenced host is left that could send anything; null: it is not. */
export function whyDead(state: CoordinatorState, host: HostRecord): string | null {
  const { fence } = host
  if (fence === null) return null
  const { attestedIncarnation, newestIncarnation, attestedBy } = fence
  if (attestedIncarnation !== null && attestedIncarnation >= (newestIncarnation ?? 0)) {
    return `its agent is dead, attested by ${attestedBy ?? 'nobody'}`
  }
  return hostLive(state, host.name).clean ? 'its agent has ended all it had, and said so' : null
}

/** Nothing of the host, at the epoch that is being fenced, can reach any of these any more. */
export function isSilentAt(fence: FenceRecord, storages: readonly string[]): boolean {
  // Planted bug: the fence of other storages, and the end of all leases, is taken for enough.
  return canary('silence-not-awaited') || storages.every(storage => fence.acknowledged.includes(storage))
}

/** External storages that the host was writing to, where what it had sent may still arrive. */
export function openExternals(state: CoordinatorState, fence: FenceRecord): string[] {
  return fence.needed.filter(storage => isExternal(state, storage) && !isSilentAt(fence, [storage]))
}

/**
 * In the place of a storage's acknowledgement: its processes are gone, and what they had handed to the network has had the
 * time that a request may take.
 */
export function noteSilence(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  const { fence } = host
  if (fence === null || (host.phase !== 'fencing' && host.phase !== 'fenced')) return
  const missing = externalNames(state).filter(storage => !fence.acknowledged.includes(storage))
  if (missing.length === 0) return
  const live = hostLive(state, host.name)
  const why = whyDead(state, host)
  if (why === null) {
    live.silentSince = null
    return
  }
  live.silentSince ??= now
  const waitMs = state.cluster.settings.ioDeadlineMs
  if (now - live.silentSince < waitMs) return
  const acknowledged = [...fence.acknowledged, ...missing].sort()
  out.put('hosts', host.name, { ...host, fence: { ...fence, acknowledged } })
  const concerned = missing.filter(storage => fence.needed.includes(storage))
  if (concerned.length === 0) return
  out.decide({
    kind: 'silent',
    subject: host.name,
    saw: { epoch: host.epoch, withoutEpochs: concerned, attestedBy: fence.attestedBy, waitedMs: waitMs },
    chose: `count epoch ${host.epoch} as over on ${concerned.join(', ')}`,
    why: `${why}, and what it had sent had ${waitMs} ms to arrive; a storage without epochs refuses nothing by itself`,
  })
}

/** After a restore: a host that may be at work on any of these, whatever the copy has it at. Null: there is none. */
export function whyNotRestored(state: CoordinatorState, storages: readonly string[]): string | null {
  for (const host of state.hosts.values()) {
    const why = host.fence?.restored === true ? whyNotSilent(state, host, storages) : null
    if (why !== null) return why
  }
  return null
}

/** For people: what a VM at the fenced host waits for; null: for nothing of this kind. */
export function whyNotSilent(state: CoordinatorState, host: HostRecord, storages: readonly string[]): string | null {
  const { fence } = host
  if (fence === null || isSilentAt(fence, storages)) return null
  const where = storages.filter(storage => !fence.acknowledged.includes(storage)).join(', ')
  if (whyDead(state, host) !== null) return `what ${host.name} had sent to ${where} is given its time to arrive`
  return `${where} has no epochs and would take late writes of ${host.name}, whose death nobody has attested: when it is surely off: stellwerk host confirm-dead ${host.name}`
}

// --- owners ------------------------------------------------------------------------------------------------------------------

/**
 * An owner that no storage drains is told to end before another is chosen, `to` if it is named. True: nobody else may begin
 * yet.
 */
export function ownerLeaves(
  state: CoordinatorState,
  volume: VolumeRecord,
  to: string | null,
  why: string,
  out: StepOutput,
): boolean {
  const { owner, leaving: former } = volume
  if (externalsOf(state, volume).length === 0) return false
  if (owner === null) {
    if (former == null) return false
    out.put('volumes', volume.name, { ...volume, leaving: { ...former, to } })
    return true
  }
  state.mapVersion += 1
  const leaving: LeavingOwner = { ...owner, mapVersion: state.mapVersion, to }
  out.put('volumes', volume.name, { ...volume, owner: null, leaving })
  out.decide({
    kind: 'owner-leaves',
    subject: volume.name,
    saw: { owner: owner.host, epoch: owner.epoch },
    chose: `no owner until ${owner.host} has ended`,
    why: `${why}; ${externalsOf(state, volume).join(', ')} would take writes of both`,
  })
  return true
}

/** Null: a former owner writes no more. */
export function whyNotLeft(state: CoordinatorState, volume: string, leaving: LeavingOwner): string | null {
  const host = state.hosts.get(leaving.host)
  if (host === undefined || host.epoch > leaving.hostEpoch) return null
  if (host.fence !== null) return whyNotSilent(state, host, externalNames(state))
  const live = hostLive(state, leaving.host)
  const told = live.session !== null && live.beatMapVersion >= leaving.mapVersion
  return told && live.volumes.get(volume)?.ownerEpoch !== leaving.epoch
    ? null
    : `its former owner ${leaving.host} has not said that it has ended`
}
