// Who owns a volume's metadata: exactly one host, by an ownership epoch that storage enforces (rule CSV1).

import { canary } from '@stellwerk/runtime/canary.ts'
import { shouldAsk } from './asking.ts'
import { externalsOf, isSilentAt, ownerLeaves, whyNotLeft, whyNotRestored } from './external.ts'
import { isFencedOn } from './fencing.ts'
import { hostLive, isUsable, usableHosts } from './hosts.ts'
import { isCounting, volumeLive } from './legs.ts'
import type { StepOutput } from './output.ts'
import { isQuarantined } from './quarantine.ts'
import type { CoordinatorState, HostRecord, RecoveryRecord, VolumeRecord } from './state.ts'

/** A volume whose owner does not get it open is given to another host after this many lease times. */
const OPENING_LEASES = 4

export function workOnVolumes(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const volume of [...state.volumes.values()]) {
    const isThere = volume.phase !== 'creating' && volume.phase !== 'deleting'
    if (isThere && !volume.unsure) chooseOwner(state, volume, now, out)
  }
  for (const recovery of [...state.recoveries.values()]) {
    const owner = state.volumes.get(recovery.volume)?.owner
    if (!owner || !isServing(state, recovery.volume)) continue
    // A slot may be recovered only when nothing can be written under its host's old epoch any more.
    const host = state.hosts.get(recovery.host)
    if (host?.epoch === recovery.hostEpoch && !isFencedOn(state, host, [recovery.volume])) continue
    const volume = state.volumes.get(recovery.volume)
    const mayBeWritten = volume === undefined ? [] : externalsOf(state, volume)
    if (host?.epoch === recovery.hostEpoch && host.fence !== null && !isSilentAt(host.fence, mayBeWritten)) continue
    const key = `recover/${recovery.volume}/${recovery.host}/${recovery.hostEpoch}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    out.effect({
      kind: 'owner',
      key,
      host: owner.host,
      volume: recovery.volume,
      message: 'volume.release-host',
      body: {
        ...{ volume: recovery.volume, host: recovery.host, hostEpoch: recovery.hostEpoch },
        ended: endedDisks(state, recovery),
      },
    })
  }
}

/**
 * Of VMs whose last instance was on that host in that epoch of it, whether it got as far as holding them or not. By the epoch of
 * that instance: after a restore the VM's own is far above, and above one of which this coordinator does not know.
 */
function endedDisks(
  state: CoordinatorState,
  { volume, host, hostEpoch }: RecoveryRecord,
): { disk: string; vm: string; epoch: number }[] {
  return [...state.vms.values()].flatMap(({ name, placement, lost, formerlyLost, disks }) => {
    const last = placement ?? lost ?? formerlyLost
    if (last?.host !== host || last.hostEpoch !== hostEpoch || last.epoch === undefined) return []
    const { epoch } = last
    return disks.filter(disk => disk.volume === volume).map(({ disk }) => ({ disk, vm: name, epoch }))
  })
}

/** The owner has the volume open. */
export function isServing(state: CoordinatorState, name: string): boolean {
  const volume = state.volumes.get(name)
  if (!volume?.owner) return false
  const reported = hostLive(state, volume.owner.host).volumes.get(name)
  return reported?.ownerEpoch === volume.owner.epoch && reported.state === 'serving'
}

/** Why nothing of these volumes may be opened for a guest yet; null: it may. */
export function whyNotOpened(state: CoordinatorState, volumes: readonly string[]): string | null {
  for (const volume of volumes) {
    if (!isServing(state, volume)) return `volume ${volume} has no owner that serves it`
    for (const recovery of canary('started-before-recovery') ? [] : state.recoveries.values()) {
      if (recovery.volume === volume) return `what ${recovery.host} left on volume ${volume} is being recovered`
    }
  }
  return null
}

/** Of a volume that was forced: its first owner since then has taken away what hosts had marked: from here on what is marked counts. */
export function noteOpened(state: CoordinatorState, volume: VolumeRecord, out: StepOutput): void {
  if (volume.forced?.opened !== false || !isServing(state, volume.name)) return
  out.put('volumes', volume.name, { ...volume, forced: { ...volume.forced, opened: true } })
  state.mapVersion += 1
}

/** Its owner says so. */
export function isDamaged(state: CoordinatorState, { name, owner }: VolumeRecord): boolean {
  if (owner === null) return false
  const said = hostLive(state, owner.host).volumes.get(name)
  return said?.ownerEpoch === owner.epoch && said.state === 'damaged'
}

/**
 * An owner that only its peers reach does not report: what it last said counts until it is asked and is not there. From
 * then on it does not serve, and after a while another is chosen.
 */
export function ownerRefused(state: CoordinatorState, name: string, code: string): void {
  const owner = state.volumes.get(name)?.owner
  if (!owner || (code !== 'owner-away' && code !== 'no-such-actor')) return
  const live = hostLive(state, owner.host)
  if (live.verdict === 'link-cut') live.volumes = new Map([...live.volumes].filter(([volume]) => volume !== name))
}

function chooseOwner(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  const key = `owner/${volume.name}`
  if (volume.owner !== null && ownerIsGood(state, volume)) {
    if (isServing(state, volume.name)) {
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.leaseMs * OPENING_LEASES })
      if (volume.phase === 'formatting') {
        out.put('volumes', volume.name, { ...volume, phase: 'ready' })
        state.mapVersion += 1
      }
      return
    }
    // The volume's own fault: no other host would get it open either, and each would raise its owner epoch in vain. Its word
    // counts while it can tell whether that is still so.
    const host = state.hosts.get(volume.owner.host)
    if (isDamaged(state, volume) && host !== undefined && reaches(state, host, volume)) {
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.leaseMs * OPENING_LEASES })
      return
    }
    // It is opening it, or trying to: others are asked only when it takes too long.
    const since = state.outstanding.get(key)
    if (since === undefined) {
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.leaseMs * OPENING_LEASES })
      return
    }
    const given = hostLive(state, volume.owner.host).volumes.get(volume.name)
    const failed = given?.ownerEpoch === volume.owner.epoch && given.state === 'failed'
    const sooner = failed ? state.cluster.settings.leaseMs * (OPENING_LEASES - 1) : 0
    if (now < since.retryAt - sooner) return
  }
  const given = volume.owner === null ? 'it has none' : `${volume.owner.host} does not serve it`
  if (volume.owner !== null && ownerLeaves(state, volume, null, given, out)) return
  const former = volume.leaving ?? null
  if (externalsOf(state, volume).length > 0) {
    const why =
      former === null ? whyNotRestored(state, externalsOf(state, volume)) : whyNotLeft(state, volume.name, former)
    volumeLive(state, volume.name).why = why
    if (why !== null) return
  }
  const current = volume.owner === null ? undefined : state.hosts.get(volume.owner.host)
  const again = current !== undefined && isUsable(state, current) && reaches(state, current, volume) ? [current] : []
  const candidates = [...otherOwners(state, volume), ...again]
  const chosen = candidates.find(host => host.name === former?.to) ?? candidates[0]
  if (chosen === undefined) return
  const epoch = volume.ownerEpoch + 1
  out.put('volumes', volume.name, {
    ...volume,
    owner: { host: chosen.name, hostEpoch: chosen.epoch, epoch },
    ownerEpoch: epoch,
    ...(former === null ? {} : { leaving: null }),
  })
  state.mapVersion += 1
  state.outstanding.set(key, { retryAt: now + state.cluster.settings.leaseMs * OPENING_LEASES })
  out.decide({
    kind: 'owner',
    subject: volume.name,
    saw: { owner: (volume.owner ?? former)?.host ?? null, candidates: candidates.map(host => host.name) },
    chose: `${chosen.name} at ownership epoch ${epoch}`,
    why: whyChosen(volume),
  })
}

/** Usable hosts but its owner that reach all of it, the best first. */
export function otherOwners(state: CoordinatorState, volume: VolumeRecord): HostRecord[] {
  const owned = (host: HostRecord) => volumesOwnedBy(state, host.name).length
  // One in quarantine may fail again soon, one that is drained goes soon: but either is better than none.
  const rank = (host: HostRecord) => (host.drain !== undefined ? 2 : isQuarantined(host) ? 1 : 0)
  return usableHosts(state)
    .filter(host => host.name !== volume.owner?.host && reaches(state, host, volume))
    .sort((a, b) => rank(a) - rank(b) || owned(a) - owned(b) || (a.name < b.name ? -1 : 1))
}

export function volumesOwnedBy(state: CoordinatorState, host: string): VolumeRecord[] {
  return [...state.volumes.values()].filter(volume => volume.owner?.host === host)
}

function reaches(state: CoordinatorState, host: HostRecord, volume: VolumeRecord): boolean {
  const { reachableStorages } = hostLive(state, host.name)
  return volume.legs.every(leg => !isCounting(leg) || reachableStorages.includes(leg.storage))
}

/** Gives the volume to this host, when its present owner can go on no longer. Gives the ownership epoch that it will have. */
export function giveVolume(
  state: CoordinatorState,
  volume: VolumeRecord,
  to: HostRecord,
  why: string,
  out: StepOutput,
): number {
  const { name } = volume
  const epoch = volume.ownerEpoch + 1
  if (ownerLeaves(state, volume, to.name, why, out)) return epoch
  out.put('volumes', name, {
    ...volume,
    owner: { host: to.name, hostEpoch: to.epoch, epoch },
    ownerEpoch: epoch,
  })
  state.mapVersion += 1
  state.outstanding.delete(`owner/${name}`)
  out.decide({
    kind: 'owner',
    subject: name,
    saw: { owner: volume.owner?.host ?? null },
    chose: `${to.name} at ownership epoch ${epoch}`,
    why,
  })
  return epoch
}

function whyChosen({ owner, leaving }: VolumeRecord): string {
  if (owner !== null) return `its owner ${owner.host} does not serve it`
  return leaving == null ? 'the volume has no owner' : `its former owner ${leaving.host} has ended`
}

/** Cut off from the coordinator alone it goes on: its peers reach it, and pass our orders on. */
function ownerIsGood(state: CoordinatorState, volume: VolumeRecord): boolean {
  const owner = volume.owner
  if (owner === null) return false
  const host = state.hosts.get(owner.host)
  if (host === undefined || host.removed || host.phase !== 'admitted' || host.epoch !== owner.hostEpoch) return false
  const live = hostLive(state, owner.host)
  return (
    live.verdict === 'up' || live.verdict === 'link-cut' || live.verdict === 'unknown' || live.verdict === 'suspect'
  )
}
