// Hosts that are taken out of service in order: a draining host gets no VMs, its VMs are moved live to others, as many at a time as
// hosts may have migrations, and the volumes that it owns are given to others. What nobody else can take stays, and why is told.
// It is drained when nothing of it is left to move, and stays out of service until an operator resumes it.

import { shouldAsk } from './asking.ts'
import { isExport } from './exports.ts'
import { hostLive, isUsable, isWanted, vmsAt } from './hosts.ts'
import { requestMigration } from './migration.ts'
import type { StepOutput } from './output.ts'
import { giveVolume, isServing, otherOwners, volumesOwnedBy } from './ownership.ts'
import { calendar } from './quarantine.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** A VM that could not be moved is tried again after so many heartbeats. */
const RETRY_BEATS = 2

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
    moveAway(state, host, vmsAt(state, host.name), 'drain', now, out)
  }
}

/** What is left there, and why each is; nothing: it is drained. */
export function leftToDrain(
  state: CoordinatorState,
  host: string,
): { readonly vm: string; readonly why: string | null }[] {
  const { whyNotMoved } = hostLive(state, host)
  return vmsAt(state, host).map(({ name }) => ({ vm: name, why: whyNotMoved.get(name) ?? null }))
}

/** Asks for a live migration of each of these VMs of the host that runs there now; what keeps one there is in `whyNotMoved`. */
export function moveAway(
  state: CoordinatorState,
  host: HostRecord,
  vms: readonly VmRecord[],
  purpose: 'drain' | 'stranded',
  now: number,
  out: StepOutput,
): void {
  const { whyNotMoved } = hostLive(state, host.name)
  const retryMs = state.cluster.settings.heartbeatMs * RETRY_BEATS
  for (const vm of [...whyNotMoved.keys()]) if (!vms.some(({ name }) => name === vm)) whyNotMoved.delete(vm)
  for (const vm of vms) {
    if (isExport(vm)) {
      whyNotMoved.set(vm.name, 'it serves an export: end it, stellwerk disk unexport')
      continue
    }
    const { placement } = vm
    if (vm.migration !== null || placement?.host !== host.name || placement.phase !== 'running') continue
    if (!isWanted(state, vm) || !shouldAsk(state, `${purpose}/${vm.name}`, now, retryMs)) continue
    const id = `${purpose}-${state.cluster.term}-${state.decisionSeq + 1}`
    const asked = requestMigration(state, id, vm.name, null, now, out)
    if ('code' in asked) whyNotMoved.set(vm.name, asked.message)
    else whyNotMoved.delete(vm.name)
  }
}

function giveVolumesAway(state: CoordinatorState, host: HostRecord, out: StepOutput): void {
  for (const volume of volumesOwnedBy(state, host.name)) {
    if (!isServing(state, volume.name)) continue
    const to = otherOwners(state, volume).find(other => !isDraining(other))
    if (to !== undefined) giveVolume(state, volume, to, `its owner ${host.name} is being drained`, out)
  }
}
