// The last resort: a volume goes on with a leg that is behind, or, after a restore, with one that others are waited for to judge. What
// it lacks is lost, as an operator says. Nobody may be at work on another leg, then or later: every host that might be has ended or
// is dead, and this leg's storage refuses it; the generation is above any that another leg's storage may have been told.

import { accept, type CommandResult, refuse } from './command-result.ts'
import { isExternal } from './external.ts'
import { isAttestedDead } from './fencing.ts'
import { hostLive } from './hosts.ts'
import { whyUnsure } from './leg-verification.ts'
import { changeGeneration, volumeLive } from './legs.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, HostRecord, LegRecord, VmRecord, VolumeRecord } from './state.ts'

/**
 * More generations than a leg that went on alone can have seen without this coordinator's knowledge. Were it one too few, a host that
 * opens that leg to resync it would hear of a higher generation in which it counts, and follow that.
 */
const FORCED_JUMP = 1_000_000

export function forceLeg(
  state: CoordinatorState,
  volume: VolumeRecord,
  leg: LegRecord,
  out: StepOutput,
): CommandResult {
  const role = volume.unsure ? roleHeard(state, volume, leg) : leg.role
  const refused =
    (volume.unsure ? whyNotWhole(state, volume, leg, role) : whyNotBehind(volume, leg)) ?? whyInUse(state, volume, leg)
  if (refused !== null) return refused
  const was = volume.unsure ? `while the restored volume waited: ${whyUnsure(state, volume)}` : `which was ${role}`
  const legs = volume.legs.map(each =>
    each === leg ? { ...each, role: 'in-sync' as const } : { ...each, role: 'stale' as const, lastInSync: null },
  )
  // It is not drained by a storage without epochs: it is to say that it has ended.
  const leaving = volume.owner === null ? null : { ...volume.owner, mapVersion: state.mapVersion + 1, to: null }
  // What hosts have open is of a time that has not been: they are to open it anew.
  const forced = { times: (volume.forced?.times ?? 0) + 1, opened: false }
  const left = {
    ...aboveAll(state, volume),
    ...{ owner: null, leaving: leaving ?? volume.leaving ?? null, forced },
  }
  changeGeneration(state, left, legs, `an operator forced ${leg.leg}, ${was}`, out)
  // The other leg may be ahead of what is believed from here on: it is copied whole.
  const next = state.volumes.get(volume.name)
  if (next !== undefined) {
    const whole = next.legs.map(each => (each.leg === leg.leg ? each : { ...each, lastInSync: null }))
    out.put('volumes', volume.name, { ...next, legs: whole })
  }
  return accept({ volume: volume.name, leg: leg.leg, ...(role === 'syncing' ? { mixed: true } : {}) })
}

/** Of a volume that is unsure: known from here on, in a generation above every one that its legs may be in. */
function aboveAll(state: CoordinatorState, volume: VolumeRecord): VolumeRecord {
  if (!volume.unsure) return volume
  const live = volumeLive(state, volume.name)
  const told = [...live.marks.values()].map(({ generation }) => generation)
  live.marks.clear()
  live.why = null
  return { ...volume, unsure: false, generation: Math.max(volume.generation, ...told) + FORCED_JUMP }
}

// --- the leg -----------------------------------------------------------------------------------------------------------------

function whyNotBehind(volume: VolumeRecord, leg: LegRecord): CommandResult | null {
  if (leg.role === 'in-sync') {
    return refuse('in-sync', `${leg.leg} of volume "${volume.name}" is in sync`, 'there is nothing to force')
  }
  return leg.lastInSync === null ? neverInSync(volume, leg) : null
}

function neverInSync(volume: VolumeRecord, leg: LegRecord): CommandResult {
  return refuse('never-in-sync', `${leg.leg} of volume "${volume.name}" never had everything`, 'use a backup')
}

/**
 * What the leg was when its own storage was told last; null: that has not told yet. A storage that keeps no marks is never told:
 * what it has the copy says. `stale`: it was told of no generation of this mirror.
 */
function roleHeard(state: CoordinatorState, volume: VolumeRecord, leg: LegRecord): LegRecord['role'] | null {
  if (isExternal(state, leg.storage)) return leg.role
  const own = volumeLive(state, volume.name).marks.get(leg.storage)
  if (own === undefined) return null
  if (own.generation === 0) return volume.generation === 0 ? leg.role : 'stale'
  return own.legs[leg.leg] ?? 'stale'
}

/** A leg that once had everything always has some of it; which is known of one that catches up by the copy alone. */
function whyNotWhole(
  state: CoordinatorState,
  volume: VolumeRecord,
  leg: LegRecord,
  role: LegRecord['role'] | null,
): CommandResult | null {
  if (role === null) {
    const message = `${leg.storage} has not told yet which generation ${leg.leg} of volume "${volume.name}" is of`
    return refuse('leg-not-heard', message, `start ${leg.storage}, or force the leg of a storage that answers`)
  }
  const wasInSync = leg.role === 'in-sync' || leg.lastInSync !== null
  const isKnown = isExternal(state, leg.storage) ? wasInSync : role === 'in-sync' || (role === 'syncing' && wasInSync)
  return isKnown ? null : neverInSync(volume, leg)
}

// --- who may be at work on another one -----------------------------------------------------------------------------------------

function whyInUse(state: CoordinatorState, volume: VolumeRecord, leg: LegRecord): CommandResult | null {
  const user = userOf(state, volume)
  if (user !== undefined) {
    const hint = `stop it first: stellwerk vm stop ${user.name}`
    return refuse('volume-in-use', `VM "${user.name}" has a disk on volume "${volume.name}"`, hint)
  }
  for (const host of state.hosts.values()) {
    const isJudgedWhole = volume.unsure || host.fence?.restored === true
    const refused = isJudgedWhole ? whyNotOver(state, host, leg) : whyNotHeard(state, host, leg)
    if (refused !== null) return refused
  }
  return null
}

function userOf(state: CoordinatorState, volume: VolumeRecord): VmRecord | undefined {
  const isOver = (vm: VmRecord): boolean =>
    hasEnded(state, vm) || isDeadWithHost(state, vm) || isOfRestoredHost(state, vm)
  return [...state.vms.values()].find(vm => vm.disks.some(disk => disk.volume === volume.name) && !isOver(vm))
}

/** Its record does not say where it was last: what any of these hosts may run is asked of each. */
function isOfRestoredHost(state: CoordinatorState, { placement }: VmRecord): boolean {
  const host = placement === null ? undefined : state.hosts.get(placement.host)
  return host?.fence?.restored === true && host.epoch === placement?.hostEpoch
}

function whyNotHeard(state: CoordinatorState, host: HostRecord, leg: LegRecord): CommandResult | null {
  if (host.removed || hostLive(state, host.name).verdict === 'up') return null
  const { fence } = host
  // The other leg's storage may be lost with it: of its fence only this leg's word can be had.
  if (fence?.attestedIncarnation != null && fence.acknowledged.includes(leg.storage)) return null
  return notAttested(host)
}

/** One that has been admitted since the restore had ended everything before, and has not had the volume open. */
function whyNotOver(state: CoordinatorState, host: HostRecord, leg: LegRecord): CommandResult | null {
  const { fence } = host
  if (fence === null) return null
  const live = hostLive(state, host.name)
  // Whoever is dead by word of anything but an operator may have had a successor that was not heard here.
  const isDead = (fence.attestedIncarnation ?? -1) >= (live.incarnation ?? Number.MAX_SAFE_INTEGER)
  if (!live.clean && !isDead) {
    if (live.verdict !== 'up') return notAttested(host)
    return refuse('host-not-clean', `host "${host.name}" has not ended yet what it ran before the restore`, 'wait')
  }
  if (fence.acknowledged.includes(leg.storage)) return null
  return refuse('fence-owed', `${leg.storage} has not acknowledged the fence of host "${host.name}"`, 'wait')
}

function notAttested({ name }: HostRecord): CommandResult {
  return refuse(
    'host-not-attested',
    `host "${name}" does not report, and may still write the other leg`,
    `when it is surely off: stellwerk host confirm-dead ${name}`,
  )
}

/**
 * What it had in flight may wait for ever for the leg that is lost. Its host forgoes it as the other one takes over (nobody was told
 * that it is durable); its guest may not go on there, with what it remembers.
 */
export function hasEnded(state: CoordinatorState, { name, placement }: VmRecord): boolean {
  if (placement === null) return true
  const machine = hostLive(state, placement.host).machines.get(name)
  return placement.phase === 'stopping' && machine?.epoch === placement.epoch && machine.state === 'draining'
}

/** With its host, which is fenced: it starts again when the other leg counts no more. */
function isDeadWithHost(state: CoordinatorState, { name, placement }: VmRecord): boolean {
  const host = placement === null ? undefined : state.hosts.get(placement.host)
  if (placement === null || host?.epoch !== placement.hostEpoch || host.fence === null) return false
  return isAttestedDead(host.fence, name, placement)
}
