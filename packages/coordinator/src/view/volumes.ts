// Volumes as operators see them. Pure; how full one is only its owner knows, so that is given.

import { externalsOf, isExternal } from '../core/external.ts'
import { whyUnsure } from '../core/leg-verification.ts'
import { isDamaged, isServing } from '../core/ownership.ts'
import { reportedScrub } from '../core/scrubs.ts'
import type { CoordinatorState, VolumeRecord } from '../core/state.ts'
import { accessToVolume } from './access.ts'
import { warningOf } from './fullness.ts'
import { ageOfHost, isFresh, liveOf, sortedHosts } from './hosts.ts'
import { resyncPercent, resyncView, resyncWhy } from './resync.ts'
import type { Usage, VolumeView } from './schemas.ts'

export function volumeView(
  state: CoordinatorState,
  volume: VolumeRecord,
  usage: Usage | null,
  now: number,
): VolumeView {
  const reported = volume.owner === null ? undefined : liveOf(state, volume.owner.host).volumes.get(volume.name)
  return {
    name: volume.name,
    state: volumeState(state, volume, now),
    whyNot: volumeWhyNot(state, volume, now),
    ageMs: volume.owner === null ? 0 : ageOfHost(state, volume.owner.host, now),
    id: volume.id,
    sizeBytes: volume.sizeBytes,
    owner: volume.owner?.host ?? null,
    ownerEpoch: volume.ownerEpoch,
    ownerReports: reported?.state ?? null,
    generation: volume.generation,
    legs: volume.legs.map(leg => ({
      leg: leg.leg,
      storage: leg.storage,
      lun: leg.lun,
      role: leg.role,
      state: legState(state, leg.storage, now),
      why: legWhy(state, volume, leg.role),
      percent: leg.role === 'syncing' ? resyncPercent(state, volume) : null,
      resync: leg.role === 'syncing' ? resyncView(state, volume) : null,
      epochs: !isExternal(state, leg.storage),
    })),
    generationOwed: [...volume.generationOwed],
    recovering: [...state.recoveries.values()]
      .filter(recovery => recovery.volume === volume.name)
      .map(recovery => recovery.host)
      .sort(),
    usage,
    pathPolicy: volume.pathPolicy,
    access: accessToVolume(state, volume, now),
    scrub: scrubOf(state, volume),
    warning:
      [warningOf(usage), scrubWarning(volume), copyWarning(state, volume), resyncWhy(state, volume)]
        .filter(each => each !== null)
        .join('; ') || null,
  }
}

function legWhy(state: CoordinatorState, volume: VolumeRecord, role: string): string | null {
  if (role === 'stale') return state.liveVolumes.get(volume.name)?.why ?? null
  return role === 'syncing' ? resyncWhy(state, volume) : null
}

function copyWarning(state: CoordinatorState, { name }: VolumeRecord): string | null {
  const why = state.liveVolumes.get(name)?.copyRefused
  return why == null ? null : `its copy of the cluster's definitions is old: ${why}`
}

function scrubOf(state: CoordinatorState, volume: VolumeRecord): VolumeView['scrub'] {
  const running = reportedScrub(state, volume)
  if (running?.state === 'running') {
    const { scrub, doneBytes, totalBytes, repaired, unresolved, skipped } = running
    const percent = totalBytes === 0 ? 0 : Math.floor((doneBytes / totalBytes) * 100)
    return { scrub, state: 'running', percent, wallMs: null, repaired, unresolved, skipped }
  }
  const { lastScrub } = volume
  if (lastScrub === undefined) return null
  const { scrub, state: ended, wallMs, repaired, unresolved, skipped } = lastScrub
  return { scrub, state: ended, percent: null, wallMs, repaired, unresolved, skipped }
}

function scrubWarning({ name, lastScrub, legs }: VolumeRecord): string | null {
  if (lastScrub === undefined || lastScrub.unresolved === 0 || legs.length < 2) return null
  const places = lastScrub.unresolved === 1 ? 'one place' : `${lastScrub.unresolved} places`
  return `the last scrub left ${places} undecided: stellwerk volume check ${name} --scrub --last`
}

export function volumeState(state: CoordinatorState, volume: VolumeRecord, now: number): string {
  if (isDamaged(state, volume)) return 'damaged'
  if (unreachableStorages(state, volume, now).length > 0) return 'unreachable'
  if (volume.phase !== 'ready') return volume.phase
  if (isServing(state, volume.name)) return 'serving'
  return volume.owner === null ? 'without-owner' : 'opening'
}

/** Why nothing can be done with it, or it is not open: what its owner found, or whom no host reaches. */
export function volumeWhyNot(state: CoordinatorState, volume: VolumeRecord, now: number): string | null {
  const unsure = whyUnsure(state, volume)
  if (unsure !== null) return `which of its legs count is not known after the restore: ${unsure}`
  const away = unreachableStorages(state, volume, now)
  if (away.length > 0) return `no host reaches storage ${away.join(', ')}`
  // Its LUNs are being made, or a former owner is waited for.
  if (volume.owner === null) {
    const waits = volume.phase === 'creating' || volume.phase === 'deleting' || externalsOf(state, volume).length > 0
    return waits ? (state.liveVolumes.get(volume.name)?.why ?? null) : null
  }
  return liveOf(state, volume.owner.host).volumes.get(volume.name)?.why ?? null
}

/** The storages of its legs, where no host reaches any of them: requests to its disks wait. */
function unreachableStorages(state: CoordinatorState, volume: VolumeRecord, now: number): string[] {
  const away = volume.legs.filter(({ storage }) => legState(state, storage, now) === 'unreachable')
  return away.length === volume.legs.length ? away.map(({ storage }) => storage) : []
}

/** Seen from the hosts: a leg that one of them reaches is up. */
function legState(state: CoordinatorState, storage: string, now: number): string {
  const heard = sortedHosts(state).filter(host => isFresh(state, host.name, now))
  if (heard.length === 0) return 'unknown'
  return heard.some(host => liveOf(state, host.name).reachableStorages.includes(storage)) ? 'up' : 'unreachable'
}
