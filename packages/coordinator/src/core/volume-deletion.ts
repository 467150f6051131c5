// Taking a volume away. From the command on, durably, nothing is started there and its record names no leg; its LUNs are deleted when
// no host can have it open any more, so that a volume of the same name that is made later is written by nobody who means this one.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import { accept, type CommandResult, refuse } from './command-result.ts'
import { isExport } from './exports.ts'
import { orderedNames } from './external.ts'
import { beginFencing } from './fencing.ts'
import { hasEnded } from './forced-legs.ts'
import { hostLive } from './hosts.ts'
import { volumeLive } from './legs.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, HostRecord, VmRecord, VolumeRecord } from './state.ts'

/** `force`: with the VMs that have a disk on it, whose data is lost with it; none of them may be alive. */
export function deleteVolume(state: CoordinatorState, name: string, force: boolean, out: StepOutput): CommandResult {
  const volume = state.volumes.get(name)
  if (volume === undefined) {
    return refuse('unknown-volume', `there is no volume "${name}"`, 'see: stellwerk volume list')
  }
  if (volume.phase === 'deleting') return refuse('being-deleted', `volume "${name}" is being deleted`, 'wait')
  const users = [...state.vms.values()].filter(vm => vm.disks.some(disk => disk.volume === name))
  const user = force ? users.find(vm => !isOver(state, vm)) : users[0]
  if (user !== undefined) return refuse('volume-in-use', `${phraseOf(user)} volume "${name}"`, hintFor(user, force))
  for (const { name: vm } of users) {
    out.remove('vms', vm)
    state.liveVms.delete(vm)
  }
  for (const [key, recovery] of [...state.recoveries]) if (recovery.volume === name) out.remove('recoveries', key)
  const luns = volume.legs.map(leg => ({ storage: leg.storage, lun: leg.lun, id: lunId(volume, leg) }))
  out.put('volumes', name, {
    ...volume,
    ...{ phase: 'deleting', owner: null, legs: [], retired: [...luns, ...volume.retired] },
    ...{ generationOwed: [], unsure: false },
    ...(volume.leaving == null ? {} : { leaving: null }),
  })
  state.mapVersion += 1
  volumeLive(state, name).deletedIn = state.mapVersion
  out.decide({
    kind: 'volume-deleted',
    subject: name,
    saw: { legs: luns.map(({ storage }) => storage), vms: users.map(vm => vm.name) },
    chose: users.length === 0 ? 'delete it' : `delete it, with ${users.map(vm => vm.name).join(', ')}`,
    why: force ? 'an operator said so, whatever is on it' : 'an operator asked for it, and nothing is on it',
  })
  return accept({ volume: name })
}

/** Nothing of it runs, or what does can reach nothing and is never started again. */
function isOver(state: CoordinatorState, vm: VmRecord): boolean {
  if (vm.migration !== null || isExport(vm)) return false
  if (hasEnded(state, vm)) return true
  const host = vm.placement === null ? undefined : state.hosts.get(vm.placement.host)
  return host === undefined || host.epoch !== vm.placement?.hostEpoch || host.fence !== null
}

function phraseOf(vm: VmRecord): string {
  const exported = isExport(vm) ? vm.disks[0]?.disk : undefined
  return exported === undefined ? `VM "${vm.name}" has a disk on` : `disk "${exported}" is exported from`
}

function hintFor(vm: VmRecord, force: boolean): string {
  if (isExport(vm)) return `end that first: stellwerk disk unexport ${vm.disks[0]?.volume} ${vm.disks[0]?.disk}`
  return force ? `stop it first: stellwerk vm stop ${vm.name}` : `delete it first: stellwerk vm delete ${vm.name}`
}

/** Null: no host can have it open any more. One that is gone cannot say so: it is fenced. */
export function whyStillOpen(state: CoordinatorState, volume: VolumeRecord, out: StepOutput): string | null {
  const live = volumeLive(state, volume.name)
  // What an earlier run has told counts anew.
  live.deletedIn ??= state.mapVersion
  let why: string | null = null
  for (const host of [...state.hosts.values()]) {
    if (hasLetGo(state, host, volume, live.deletedIn)) continue
    why ??= `${host.name} may still have it open`
    if (host.fence !== null || hostLive(state, host.name).verdict !== 'gone') continue
    beginFencing(state, host, `it is gone, and may have volume "${volume.name}" open, which is deleted`, null, out)
  }
  return why
}

function hasLetGo(state: CoordinatorState, host: HostRecord, { retired }: VolumeRecord, mapVersion: number): boolean {
  const { fence } = host
  if (fence !== null) {
    const ordered = orderedNames(state)
    return retired.every(({ storage }) => !ordered.includes(storage) || fence.acknowledged.includes(storage))
  }
  if (host.removed || host.phase !== 'admitted') return true
  const live = hostLive(state, host.name)
  return live.session !== null && live.mapVersion >= mapVersion
}

/** All its LUNs are gone. */
export function finishDeletion(state: CoordinatorState, { name }: VolumeRecord, out: StepOutput): void {
  out.remove('volumes', name)
  state.liveVolumes.delete(name)
  state.copied.delete(name)
  out.trace({ level: 'decision', kind: 'volume.deleted', volume: name, body: {} })
  state.mapVersion += 1
}
