// Hosts that are taken out of service in order: a draining host gets no VMs, its VMs are moved live to others, as many at a time as
// hosts may have migrations, and the volumes that it owns are given to others. What nobody else can take stays, and why is told.
// It is drained when nothing of it is left to move, and stays out of service until an operator resumes it.

import { isUsable, vmsAt } from './hosts.ts'
import { forgetMoved, moveAway } from './live-moves.ts'
import type { StepOutput } from './output.ts'
import { giveVolume, isServing, otherOwners, volumesOwnedBy } from './ownership.ts'
import { calendar } from './quarantine.ts'
import type { CoordinatorState, HostRecord } from './state.ts'

export function isDraining(host: HostRecord): boolean {
  return host.drain !== undefined
}

export function beginDrain(state: CoordinatorState, host: HostRecord, why: string, now: number, out: StepOutput): void {
  if (isDraining(host)) return
  out.put('hosts', host.name, { ...host, drain: { sinceMs: calendar(state, now), why } })
  out.decide({
    kind: 'drain',
    subject: host.name,
    saw: {
      vms: vmsAt(state, host.name).map(vm => vm.name),
      owns: volumesOwnedBy(state, host.name).map(({ name }) => name),
    },
    chose: 'move its VMs and volumes to others and give it no more',
    why: `${why}; an operator ends it: stellwerk host resume ${host.name}`,
  })
}

export function endDrain(host: HostRecord, why: string, out: StepOutput): void {
  const { drain: _over, ...rest } = host
  out.put('hosts', host.name, rest)
  out.decide({ kind: 'drain-over', subject: host.name, saw: {}, chose: 'give it VMs again', why })
}

/** Moves on what can be moved now. */
export function workOnDrains(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const host of [...state.hosts.values()]) {
    if (!isDraining(host) || !isUsable(state, host) || state.halted) continue
    giveVolumesAway(state, host, out)
    forgetMoved(state, host.name)
    for (const vm of vmsAt(state, host.name)) moveAway(state, host, vm, { purpose: 'drain', to: null }, now, out)
  }
}

function giveVolumesAway(state: CoordinatorState, host: HostRecord, out: StepOutput): void {
  for (const volume of volumesOwnedBy(state, host.name)) {
    if (!isServing(state, volume.name)) continue
    const to = otherOwners(state, volume).find(other => !isDraining(other))
    if (to !== undefined) giveVolume(state, volume, to, `its owner ${host.name} is being drained`, out)
  }
}
