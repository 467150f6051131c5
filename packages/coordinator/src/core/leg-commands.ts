// What operators ask for a volume's legs: a second one, one less, a resync at once, and, when all else is lost, to go on
// with a leg that is behind.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import { accept, type CommandResult, refuse } from './command-result.ts'
import { oweEpochs } from './fencing.ts'
import { forceLeg } from './forced-legs.ts'
import { whyUnsure } from './leg-verification.ts'
import { changeGeneration, inSyncLegs, volumeLive } from './legs.ts'
import type { StepOutput } from './output.ts'
import { mayScrub } from './scrubs.ts'
import { type CoordinatorState, type LegRecord, MAX_LEGS, type VolumeRecord } from './state.ts'
import { whyExportTaken } from './volume-creation.ts'

export type LegCommand =
  /** A second leg on this storage: made, copied in full, then in sync. */
  | { readonly kind: 'volume-mirror'; readonly name: string; readonly storage: string }
  /** Back to one leg. `leg`: its id, or its storage. */
  | { readonly kind: 'volume-unmirror'; readonly name: string; readonly leg: string }
  | { readonly kind: 'volume-resync'; readonly name: string }
  /** Whether its legs may be compared now; its owner is asked to afterwards. `leg`: right where nothing else decides. */
  | { readonly kind: 'volume-scrub'; readonly name: string; readonly leg: string | null }
  /** What only the other leg had is lost: the operator says so. */
  | { readonly kind: 'volume-force-leg'; readonly name: string; readonly leg: string }

export function obeyLegCommand(state: CoordinatorState, command: LegCommand, out: StepOutput): CommandResult {
  const volume = state.volumes.get(command.name)
  if (volume === undefined) {
    return refuse('unknown-volume', `there is no volume "${command.name}"`, 'see: stellwerk volume list')
  }
  const unsure = whyUnsure(state, volume)
  if (unsure !== null && command.kind !== 'volume-force-leg') return unsureYet(state, volume, unsure)
  switch (command.kind) {
    case 'volume-mirror':
      return mirror(state, volume, command.storage, out)
    case 'volume-unmirror':
      return unmirror(state, volume, command.leg, out)
    case 'volume-resync':
      return resync(state, volume)
    case 'volume-scrub':
      return mayScrub(state, volume, command.leg)
    case 'volume-force-leg':
      return force(state, volume, command.leg, out)
  }
}

/** After a restore: what is asked now would be of legs of which it is not known whether they count. */
function unsureYet(state: CoordinatorState, volume: VolumeRecord, why: string): CommandResult {
  const { marks } = volumeLive(state, volume.name)
  const told = volume.legs.find(leg => marks.has(leg.storage))
  return refuse(
    'volume-unsure',
    `after the restore it is not known yet which legs of volume "${volume.name}" count: ${why}`,
    told === undefined
      ? 'wait until its storages have answered'
      : `start that storage; if it is lost for good: stellwerk volume resync ${volume.name} --force-stale ${told.storage}`,
  )
}

/** Null when it can get a leg there, as far as is known here. */
export function whyNoMirror(state: CoordinatorState, volume: VolumeRecord, storage: string): CommandResult | null {
  if (!state.storages.has(storage)) {
    const known = [...state.storages.keys()].sort().join(', ')
    return refuse('unknown-storage', `there is no storage subsystem "${storage}"`, `known: ${known}`)
  }
  if (volume.phase !== 'ready')
    return refuse('not-ready', `volume "${volume.name}" is ${volume.phase}`, 'wait until it is ready')
  const there = volume.legs.find(leg => leg.storage === storage)
  if (there !== undefined) {
    return refuse('same-leg', `volume "${volume.name}" has ${there.leg} on "${storage}"`, 'name another storage')
  }
  if (volume.retired.some(each => each.storage === storage)) {
    return refuse('leg-going', `a former leg of "${volume.name}" on "${storage}" is not gone yet`, 'wait until it is')
  }
  if (volume.legs.length >= MAX_LEGS) {
    const stale = volume.legs.find(leg => leg.role === 'stale')
    return refuse(
      'mirrored',
      `volume "${volume.name}" has ${MAX_LEGS} legs: ${volume.legs.map(leg => leg.storage).join(', ')}`,
      stale === undefined
        ? 'take one away first'
        : `take the stale one away first: stellwerk volume mirror ${volume.name} --remove ${stale.storage}`,
    )
  }
  return whyExportTaken(state, storage, volume.name)
}

function mirror(state: CoordinatorState, volume: VolumeRecord, storage: string, out: StepOutput): CommandResult {
  const whyNot = whyNoMirror(state, volume, storage)
  if (whyNot !== null) return whyNot
  const index = volume.legs.some(leg => leg.index === 0) ? 1 : 0
  const added: LegRecord = {
    leg: nextLeg(volume),
    storage,
    lun: volume.name,
    index,
    role: 'stale',
    lastInSync: null,
    lunOwed: true,
  }
  const legs = [...volume.legs, added]
  out.put('volumes', volume.name, { ...volume, legs, legsMade: volume.legsMade + 1 })
  oweEpochs(state, storage, out)
  state.mapVersion += 1
  volumeLive(state, volume.name).resyncNow = true
  return accept({ volume: volume.name, leg: added.leg, storage })
}

/** The id of the leg that it gets next; none is given twice. */
export function nextLeg(volume: VolumeRecord): string {
  return `leg-${volume.legsMade}`
}

function unmirror(state: CoordinatorState, volume: VolumeRecord, name: string, out: StepOutput): CommandResult {
  const leg = findLeg(volume, name)
  if (leg === null) return unknownLeg(volume, name)
  const others = inSyncLegs(volume).filter(each => each !== leg)
  if (others.length === 0) {
    return refuse(
      'last-leg',
      `${leg.leg} is the only in-sync leg of volume "${volume.name}"`,
      `resync the other one first, or delete the volume: stellwerk volume delete ${volume.name}`,
    )
  }
  const next = {
    ...volume,
    retired: [...volume.retired, { storage: leg.storage, lun: leg.lun, id: lunId(volume, leg) }],
  }
  const legs = volume.legs.filter(each => each !== leg)
  changeGeneration(state, next, legs, `an operator took ${leg.leg} on ${leg.storage} away`, out)
  return accept({ volume: volume.name, leg: leg.leg, storage: leg.storage })
}

function resync(state: CoordinatorState, volume: VolumeRecord): CommandResult {
  const stale = volume.legs.find(leg => leg.role === 'stale')
  if (stale === undefined) {
    const syncing = volume.legs.find(leg => leg.role === 'syncing')
    return syncing === undefined
      ? refuse('in-sync', `every leg of volume "${volume.name}" is in sync`, 'there is nothing to do')
      : refuse('resyncing', `${syncing.leg} is being resynced`, `see: stellwerk volume show ${volume.name}`)
  }
  const live = volumeLive(state, volume.name)
  live.resyncNow = true
  live.resyncFailures = 0
  return accept({ volume: volume.name, leg: stale.leg, storage: stale.storage })
}

function force(state: CoordinatorState, volume: VolumeRecord, name: string, out: StepOutput): CommandResult {
  const leg = findLeg(volume, name)
  return leg === null ? unknownLeg(volume, name) : forceLeg(state, volume, leg, out)
}

function findLeg(volume: VolumeRecord, name: string): LegRecord | null {
  return volume.legs.find(leg => leg.leg === name || leg.storage === name) ?? null
}

function unknownLeg(volume: VolumeRecord, name: string): CommandResult {
  const known = volume.legs.map(leg => `${leg.leg} (${leg.storage})`).join(', ')
  return refuse('unknown-leg', `volume "${volume.name}" has no leg "${name}"`, `it has ${known}`)
}
