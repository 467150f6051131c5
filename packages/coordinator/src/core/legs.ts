// The legs of volumes: which are in sync, by a generation that is durable here before any storage is told of it. A leg is
// given up when a host that another in-sync leg serves has lost it, or when it holds up a fence; it is taken back once its
// storage answers, knows every fence that it missed, and every host at work reaches it (DESIGN section 7).

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import type { CheckExport, VolumeLegLost } from '@stellwerk/protocol/messages/cluster.ts'
import { leaseWaitMs } from '@stellwerk/protocol/settings.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { shouldAsk } from './asking.ts'
import { externalsOf, isExternal, whyNotSilent } from './external.ts'
import { runsBy } from './fencing.ts'
import { hostLive, isUsable, usableHosts, vmsAt, volumesOf, whoPassesOn } from './hosts.ts'
import { verifyLegs } from './leg-verification.ts'
import type { StepOutput } from './output.ts'
import { isServing, noteOpened } from './ownership.ts'
import { noteScrub } from './scrubs.ts'
import type { CoordinatorState, HostRecord, LegRecord, VolumeLive, VolumeRecord } from './state.ts'
import { finishDeletion, whyStillOpen } from './volume-deletion.ts'

/** A leg whose resyncs fail is tried ever more seldom, up to this many times `resyncAfterMs`. */
const RESYNC_BACKOFF_MAX = 8
/** Reports that would leave more hosts without a leg than they help are obeyed only after so many leg deadlines. */
const UNHELPFUL_DEADLINES = 3
/** A host repeats its report until there is a new generation: after so many leg deadlines of silence that loss has passed. */
const SILENT_DEADLINES = 2

export function isCounting(leg: LegRecord): boolean {
  return leg.role !== 'stale'
}

export function inSyncLegs(volume: VolumeRecord): LegRecord[] {
  return volume.legs.filter(leg => leg.role === 'in-sync')
}

export function volumeLive(state: CoordinatorState, name: string): VolumeLive {
  let live = state.liveVolumes.get(name)
  if (live === undefined) {
    live = {
      toldAt: null,
      countedBefore: state.unknownBefore.has(name) ? [[]] : [],
      olderToldAt: null,
      leavingSince: new Map(),
      goodSince: null,
      resyncFailures: 0,
      resyncNow: false,
      lostSince: new Map(),
      marks: new Map(),
      lun: null,
      why: null,
      scrub: undefined,
    }
    state.liveVolumes.set(name, live)
  }
  return live
}

/** Durable before anyone is told: from here on the volume is what this says. */
export function changeGeneration(
  state: CoordinatorState,
  volume: VolumeRecord,
  legs: readonly LegRecord[],
  why: string,
  out: StepOutput,
): void {
  assert(
    legs.some(({ role }) => role === 'in-sync'),
    `volume ${volume.name} keeps a leg that is in sync`,
  )
  const live = volumeLive(state, volume.name)
  const counted = owedStorages(state, volume.legs)
  if (!live.countedBefore.some(each => each.join() === counted.join()))
    live.countedBefore = [...live.countedBefore, counted]
  const generation = volume.generation + 1
  const next: VolumeRecord = {
    ...volume,
    legs: legs.map(leg => dated(volume, leg)),
    generation,
    generationId: `${state.cluster.term}-${state.decisionSeq + 1}`,
    generationOwed: owedStorages(state, legs),
  }
  out.put('volumes', volume.name, next)
  state.mapVersion += 1
  live.toldAt = null
  live.goodSince = null
  live.resyncNow = false
  live.lun = null
  live.lostSince.clear()
  out.decide({
    kind: 'generation',
    subject: volume.name,
    saw: { generation: volume.generation, legs: rolesOf(volume) },
    chose: `generation ${generation}: ${next.legs.map(leg => `${leg.leg} ${leg.role}`).join(', ')}`,
    why,
  })
}

/** An external one is never told: for it a generation is the store's word alone. */
function owedStorages(state: CoordinatorState, legs: readonly LegRecord[]): string[] {
  const counting = legs.filter(leg => isCounting(leg) && !isExternal(state, leg.storage))
  return [...new Set(counting.map(leg => leg.storage))].sort()
}

/** The last generation in which a leg was in sync is what its marks are known by. */
function dated(volume: VolumeRecord, leg: LegRecord): LegRecord {
  const before = volume.legs.find(each => each.leg === leg.leg)
  if (before?.role === 'in-sync' && leg.role !== 'in-sync') return { ...leg, lastInSync: volume.generation }
  return leg
}

export function rolesOf(volume: VolumeRecord): Record<string, LegRecord['role']> {
  return Object.fromEntries(volume.legs.map(leg => [leg.leg, leg.role]))
}

export function workOnLegs(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const { name } of [...state.volumes.values()]) {
    const at = (f: (volume: VolumeRecord) => void): void => {
      const volume = state.volumes.get(name)
      if (volume !== undefined) f(volume)
    }
    at(volume => verifyLegs(state, volume, now, out))
    if (state.volumes.get(name)?.unsure === true) continue
    at(volume => noteOpened(state, volume, out))
    at(volume => createLuns(state, volume, now, out))
    at(volume => tellGeneration(state, volume, now, out))
    at(volume => giveUpForFences(state, volume, now, out))
    at(volume => finishResync(state, volume, out))
    at(volume => beginResync(state, volume, now, out))
    at(volume => deleteRetired(state, volume, now, out))
    at(volume => noteScrub(state, volume, out))
  }
}

// --- LUNs ----------------------------------------------------------------------------------------------------------------

function createLuns(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  for (const leg of volume.legs) {
    if (!leg.lunOwed) continue
    const key = `lun/${volume.name}/${leg.leg}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    if (isExternal(state, leg.storage)) {
      checkExport(state, volume, leg, key, out)
      continue
    }
    const body = { lun: leg.lun, sizeBytes: volume.sizeBytes, id: lunId(volume, leg) }
    out.effect({ kind: 'storage', key, storage: leg.storage, message: 'storage.create-lun', body })
  }
}

/** An external storage's LUN is there already, or it is not: a host that reaches it looks whether it can be a leg. */
function checkExport(
  state: CoordinatorState,
  volume: VolumeRecord,
  leg: LegRecord,
  key: string,
  out: StepOutput,
): void {
  const { storage, lun } = leg
  const host = whoPassesOn(state, storage)
  if (host === undefined) {
    volumeLive(state, volume.name).why = `no host reaches ${storage}`
    state.outstanding.delete(key)
    return
  }
  const legs = volume.legs.filter(each => each !== leg && !each.lunOwed).map(each => each.leg)
  const body: CheckExport = { storage, lun, sizeBytes: volume.sizeBytes, volumeId: volume.id, legs }
  out.effect({ kind: 'order', key, host: host.name, message: 'storage.check-export', body })
}

/** When all are there, a mirror gets its first generation; the first owner lays the volume out. */
export function lunCreated(state: CoordinatorState, name: string, id: string, out: StepOutput): void {
  const volume = state.volumes.get(name)
  if (volume?.legs.some(leg => leg.leg === id && leg.lunOwed) !== true) return
  const legs = volume.legs.map(leg => (leg.leg === id ? { ...leg, lunOwed: false } : leg))
  const next = { ...volume, legs }
  volumeLive(state, name).why = null
  if (volume.phase !== 'creating' || legs.some(leg => leg.lunOwed)) {
    out.put('volumes', name, next)
    return
  }
  if (legs.length > 1) changeGeneration(state, next, legs, 'the volume begins with both legs in sync', out)
  const made = legs.length > 1 ? (state.volumes.get(name) ?? next) : next
  if (made.generationOwed.length > 0) return
  out.put('volumes', name, { ...made, phase: 'formatting' })
  state.mapVersion += 1
}

export function lunRefused(state: CoordinatorState, name: string, message: string): void {
  volumeLive(state, name).why = message
}

function deleteRetired(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  if (volume.generationOwed.length > 0) return
  if (volume.phase === 'deleting') {
    const open = whyStillOpen(state, volume, out)
    const [first] = volume.retired
    volumeLive(state, volume.name).why = open ?? `${first?.storage} has not deleted its LUN yet`
    if (open !== null) return
    if (first === undefined) finishDeletion(state, volume, out)
  }
  for (const { storage, lun, id } of volume.retired) {
    if (isExternal(state, storage) && mayStillArrive(state, volume, storage, now)) continue
    if (isExternal(state, storage) || !state.storages.has(storage)) {
      // What is in it stays: whoever has the export, or the storage, decides.
      lunDeleted(state, volume.name, storage, lun, id, out)
      continue
    }
    const key = `unlun/${volume.name}/${storage}/${lun}/${id ?? ''}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    const body = { lun, ...(id === undefined ? {} : { id }), force: true }
    out.effect({ kind: 'storage', key, storage, message: 'storage.delete-lun', body })
  }
}

/**
 * What a host has sent to a storage that refuses nothing, before it heard that the leg there counts no more: a new leg on the same export
 * must not be copied before that is in. Without a leg that refuses the old generation a host may be in it until its lease is over.
 */
function mayStillArrive(state: CoordinatorState, volume: VolumeRecord, storage: string, now: number): boolean {
  const { leavingSince } = volumeLive(state, volume.name)
  const since = leavingSince.get(storage) ?? now
  leavingSince.set(storage, since)
  const { settings } = state.cluster
  const isTold = owedStorages(state, volume.legs).length > 0
  if (now - since < settings.ioDeadlineMs + (isTold ? 0 : leaseWaitMs(settings))) return true
  leavingSince.delete(storage)
  return false
}

export function lunDeleted(
  state: CoordinatorState,
  name: string,
  storage: string,
  lun: string,
  id: string | undefined,
  out: StepOutput,
): void {
  const volume = state.volumes.get(name)
  if (volume === undefined) return
  const retired = volume.retired.filter(each => each.storage !== storage || each.lun !== lun || each.id !== id)
  if (retired.length < volume.retired.length) out.put('volumes', name, { ...volume, retired })
}

// --- generations -----------------------------------------------------------------------------------------------------------

function tellGeneration(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  for (const storage of volume.generationOwed) {
    const leg = volume.legs.find(each => each.storage === storage)
    if (leg === undefined) continue
    const key = `generation/${volume.name}/${volume.generation}/${storage}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    const body = {
      lun: leg.lun,
      ...(isExternal(state, storage) ? {} : { lunId: lunId(volume, leg) }),
      generation: volume.generation,
      ...(volume.generationId === null ? {} : { id: volume.generationId }),
      legs: rolesOf(volume),
      term: state.cluster.term,
    }
    out.effect({ kind: 'storage', key, storage, message: 'storage.generation', body })
  }
}

/** Nothing of a lower generation is written there any more. */
export function generationTold(
  state: CoordinatorState,
  name: string,
  generation: number,
  storage: string,
  now: number,
  out: StepOutput,
): void {
  const volume = state.volumes.get(name)
  if (volume?.generation !== generation || !volume.generationOwed.includes(storage)) return
  const generationOwed = volume.generationOwed.filter(owed => owed !== storage)
  const formats = generationOwed.length === 0 && volume.phase === 'creating'
  out.put('volumes', name, { ...volume, generationOwed, phase: formats ? 'formatting' : volume.phase })
  if (formats) state.mapVersion += 1
  if (generationOwed.length === 0) allTold(state, volume, now)
}

/** Who runs by legs that count no more in any part is no longer let: its storages have been raised above that. */
function allTold(state: CoordinatorState, { name, legs }: VolumeRecord, now: number): void {
  const live = volumeLive(state, name)
  live.toldAt = now
  if (runsBy(live.countedBefore, owedStorages(state, legs))) return
  live.olderToldAt = now
  live.countedBefore = []
}

// --- the loss of a leg -------------------------------------------------------------------------------------------------------

/** A host that an in-sync leg serves has lost another: its guests' writes wait for what becomes of that. */
export function legLost(state: CoordinatorState, report: VolumeLegLost, now: number, out: StepOutput): void {
  const volume = state.volumes.get(report.volume)
  const host = state.hosts.get(report.host)
  if (volume === undefined || volume.unsure || host === undefined) return
  // Of an older generation, or of a host that has no say any more.
  if (host.epoch !== report.hostEpoch || host.phase !== 'admitted') return
  if (report.generation !== volume.generation && !canary('old-report-obeyed')) return
  const lost = volume.legs.find(leg => leg.leg === report.leg)
  if (lost === undefined || !isCounting(lost)) return
  const survivors = inSyncLegs(volume).filter(leg => leg.leg !== report.leg)
  if (survivors.length === 0) return
  const live = volumeLive(state, volume.name)
  const { legDeadlineMs } = state.cluster.settings
  const reported = live.lostSince.get(report.leg)
  const isSame = reported !== undefined && now - reported.lastAt <= legDeadlineMs * SILENT_DEADLINES
  const since = isSame ? reported.since : now
  live.lostSince.set(report.leg, { since, lastAt: now })
  if (!helps(state, volume, lost, survivors) && now - since < legDeadlineMs * UNHELPFUL_DEADLINES) return
  if (lost.role === 'syncing') live.resyncFailures += 1
  const legs = volume.legs.map(leg => (leg === lost ? { ...leg, role: 'stale' as const } : leg))
  changeGeneration(state, volume, legs, `${report.host} has lost ${lost.leg} on ${lost.storage}: ${report.why}`, out)
}

/** Giving this leg up leaves no more of the hosts at work without one than keeping it does. */
function helps(
  state: CoordinatorState,
  volume: VolumeRecord,
  lost: LegRecord,
  survivors: readonly LegRecord[],
): boolean {
  const concerned = hostsAtWork(state, volume)
  const reached = (leg: LegRecord): number =>
    concerned.filter(host => hostLive(state, host.name).reachableStorages.includes(leg.storage)).length
  return Math.max(...survivors.map(reached)) >= reached(lost)
}

/** Hosts that have the volume open: a VM of it, or its ownership. */
export function hostsAtWork(state: CoordinatorState, volume: VolumeRecord): HostRecord[] {
  return [...state.hosts.values()].filter(
    host => volume.owner?.host === host.name || vmsAt(state, host.name).some(vm => volumesOf(vm).includes(volume.name)),
  )
}

/**
 * A storage that does not acknowledge a fence holds up every VM of that host: without it the fence is complete. So does one
 * without epochs while nobody has attested that the host is dead: the other leg refuses it.
 */
function giveUpForFences(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  if (inSyncLegs(volume).length === 0 || volume.legs.length < 2) return
  const withoutEpochs = externalsOf(state, volume).length > 0
  for (const host of state.hosts.values()) {
    const { fence } = host
    if (fence === null || (host.phase !== 'fencing' && !(host.phase === 'fenced' && withoutEpochs))) continue
    const leaves = withoutEpochs && (volume.leaving ?? volume.owner)?.host === host.name
    if (!fence.volumes.includes(volume.name) && !leaves) continue
    const live = hostLive(state, host.name)
    live.fencingSince ??= now
    if (now - live.fencingSince < state.cluster.settings.legDeadlineMs) continue
    const missing = volume.legs.find(leg => isCounting(leg) && !fence.acknowledged.includes(leg.storage))
    if (missing === undefined) continue
    const survivor = inSyncLegs(volume).find(leg => leg !== missing && fence.acknowledged.includes(leg.storage))
    if (survivor === undefined) continue
    const legs = volume.legs.map(leg => (leg === missing ? { ...leg, role: 'stale' as const } : leg))
    const why = `${missing.storage} does not acknowledge the fence of ${host.name}, which ${survivor.storage} has`
    changeGeneration(state, volume, legs, why, out)
    return
  }
}

// --- resync --------------------------------------------------------------------------------------------------------------------

function beginResync(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  const stale = volume.legs.find(leg => leg.role === 'stale')
  if (stale === undefined || volume.phase !== 'ready' || volume.generationOwed.length > 0) return
  if (volume.legs.some(leg => leg.role === 'syncing') || inSyncLegs(volume).length === 0) return
  const live = volumeLive(state, volume.name)
  const why = whyNotResync(state, volume, stale)
  live.why = why
  if (why !== null) {
    live.goodSince = null
    live.lun = null
    return
  }
  live.goodSince ??= now
  if (!hasLun(state, volume, stale, now, out)) {
    if (live.lun !== null) live.goodSince = null
    return
  }
  const { resyncAfterMs } = state.cluster.settings
  const patienceMs = resyncAfterMs * Math.min(RESYNC_BACKOFF_MAX, 2 ** live.resyncFailures)
  if (!live.resyncNow && now - live.goodSince < patienceMs) return
  const legs = volume.legs.map(leg => (leg === stale ? { ...leg, role: 'syncing' as const } : leg))
  changeGeneration(state, volume, legs, `${stale.storage} answers again, and every host at work reaches it`, out)
}

/** A storage that came back blank has none: in a generation with that leg everything would wait for it in vain. */
function hasLun(state: CoordinatorState, volume: VolumeRecord, leg: LegRecord, now: number, out: StepOutput): boolean {
  if (isExternal(state, leg.storage)) return true
  const live = volumeLive(state, volume.name)
  if (live.lun === 'missing') {
    const anew = `stellwerk volume mirror ${volume.name} --remove ${leg.storage}`
    live.why = `${leg.storage} has lost its LUN: take the leg away, then make it anew: ${anew}`
  } else if (live.lun !== null && live.lun !== 'there') {
    const anew = `stellwerk volume mirror ${volume.name} --remove ${leg.storage}`
    live.why = `${leg.storage} can't serve its LUN (${live.lun.failed}): put its files right, or take the leg away: ${anew}`
  }
  const key = `there/${volume.name}/${leg.leg}`
  const body = { lun: leg.lun, lunId: lunId(volume, leg) }
  if (live.lun !== 'there' && shouldAsk(state, key, now, state.cluster.settings.requestMs)) {
    out.effect({ kind: 'storage', key, storage: leg.storage, message: 'storage.opened', body })
  }
  return live.lun === 'there'
}

export function lunSeen(state: CoordinatorState, name: string, leg: string, lun: NonNullable<VolumeLive['lun']>): void {
  const volume = state.volumes.get(name)
  if (volume?.legs.some(each => each.leg === leg && each.role === 'stale') !== true) return
  volumeLive(state, name).lun = lun
}

/** Null: the leg may be written to again. */
export function whyNotResync(state: CoordinatorState, volume: VolumeRecord, leg: LegRecord): string | null {
  if (leg.lunOwed) return volumeLive(state, volume.name).why ?? `its LUN on ${leg.storage} is being made`
  if (!isServing(state, volume.name)) return 'the volume has no owner that serves it'
  if (!canary('resync-with-owed-fence')) {
    for (const host of state.hosts.values()) {
      const fenced = host.phase === 'fenced' || host.phase === 'fencing'
      const open = isExternal(state, leg.storage) ? whyNotSilent(state, host, [leg.storage]) : null
      if (open !== null) return open
      if (fenced && host.fence?.acknowledged.includes(leg.storage) === false) {
        return `${leg.storage} has not been told that ${host.name} is fenced`
      }
      if (!fenced && host.admitOwed.includes(leg.storage)) return `${leg.storage} does not know ${host.name}'s epoch`
    }
  }
  for (const host of hostsAtWork(state, volume)) {
    if (!isUsable(state, host)) return `${host.name} is not in contact`
    const reaches = hostLive(state, host.name).reachableStorages.includes(leg.storage)
    if (isExternal(state, leg.storage) && !reaches) return `${host.name} does not reach ${leg.storage}`
  }
  // One that has no path of its own is carried by one that has.
  if (!usableHosts(state).some(host => hostLive(state, host.name).reachableStorages.includes(leg.storage))) {
    return `no host reaches ${leg.storage}`
  }
  return null
}

function finishResync(state: CoordinatorState, volume: VolumeRecord, out: StepOutput): void {
  const syncing = volume.legs.find(leg => leg.role === 'syncing')
  if (syncing === undefined || volume.owner === null || volume.generationOwed.length > 0) return
  const reported = hostLive(state, volume.owner.host).volumes.get(volume.name)
  if (reported?.ownerEpoch !== volume.owner.epoch || reported.generation !== volume.generation) return
  if (reported.sync?.done !== true) return
  volumeLive(state, volume.name).resyncFailures = 0
  const legs = volume.legs.map(leg => (leg === syncing ? { ...leg, role: 'in-sync' as const } : leg))
  changeGeneration(state, volume, legs, `${syncing.storage} has everything that ${syncing.leg} missed`, out)
}
