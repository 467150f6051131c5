// Machines that have outlived their agent (real ones, processes of their own). Their host is fenced as for any agent's death; when
// its next agent is admitted, it takes them over, each at a new placement epoch, as if it were started there. What nobody wants, or
// what may be half somebody else's, is ended instead; and whatever is not taken over its guardian kills at its deadline.

import { shouldAsk } from './asking.ts'
import { isExport } from './exports.ts'
import { hostLive, isWanted } from './hosts.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, HostRecord, Placement, VmRecord } from './state.ts'

/** VMs that the host had in the epoch that it has lost. */
export function placedBefore(state: CoordinatorState, host: HostRecord): VmRecord[] {
  return [...state.vms.values()].filter(
    ({ placement }) => placement?.host === host.name && placement.hostEpoch === host.epoch,
  )
}

/**
 * The very machine of its placement is left there, and nobody else's: a migration that was under way has been decided for its
 * source. One of an earlier placement is not: by now another may have written to its disks. Of a restored host nobody knows what its
 * machines have done since the copy.
 */
export function isAdoptable(state: CoordinatorState, host: HostRecord, vm: VmRecord): boolean {
  const { placement } = vm
  if (placement?.host !== host.name || placement.hostEpoch !== host.epoch || placement.phase === 'stopping')
    return false
  if (vm.migration !== null || !isWanted(state, vm) || isExport(vm) || host.fence?.restored === true) return false
  const live = hostLive(state, host.name)
  return placement.incarnation < (live.session?.incarnation ?? 0) && isOf(placement, live.survivors.get(vm.name))
}

/** It was started for the placement, or left before its agent came to take it over for this one. */
function isOf(placement: Placement, epoch: number | undefined): boolean {
  return epoch !== undefined && (epoch === placement.epoch || epoch === placement.adopts)
}

/** In the step that gives the host its new epoch: from here on they are placed there, and nowhere else. */
export function placeSurvivors(
  state: CoordinatorState,
  host: HostRecord,
  survivors: readonly VmRecord[],
  out: StepOutput,
): void {
  const live = hostLive(state, host.name)
  const incarnation = live.session?.incarnation ?? 0
  for (const vm of survivors) {
    const before = vm.placement
    const adopts = live.survivors.get(vm.name)
    if (before === null || adopts === undefined) continue
    const epoch = vm.epoch + 1
    const placement: Placement = {
      ...{ host: host.name, hostEpoch: host.epoch, incarnation, epoch, phase: 'starting', adopts },
      ...(before.cpu === undefined ? {} : { cpu: before.cpu }),
      why: 'its machine has outlived its agent',
    }
    out.put('vms', vm.name, { ...vm, epoch, placement })
    out.decide({
      kind: 'adopt',
      subject: vm.name,
      saw: { host: host.name, incarnation: before.incarnation, epoch: adopts },
      chose: `let incarnation ${incarnation} take it over at placement epoch ${epoch}`,
      why: 'its agent died, and its machine runs on',
    })
  }
}

/** What is left on a host and is not to be taken over: its agent is told to end it. Gives whether there is any. */
export function endUnwanted(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): boolean {
  const live = hostLive(state, host.name)
  if (live.session === null) return false
  const { incarnation } = live.session
  let isAny = false
  for (const [name, epoch] of live.survivors) {
    const vm = state.vms.get(name)
    if (vm !== undefined && (isAdoptable(state, host, vm) || isBeingAdopted(host, vm, epoch))) continue
    isAny = true
    const key = `left/${host.name}/${name}/${epoch}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    const body = { vm: name, epoch, host: host.name, incarnation, graceMs: 0 }
    out.effect({ kind: 'order', key, host: host.name, message: 'vm.stop', body })
  }
  return isAny
}

function isBeingAdopted({ name, epoch: hostEpoch }: HostRecord, { placement }: VmRecord, epoch: number): boolean {
  return placement?.host === name && placement.hostEpoch === hostEpoch && placement.adopts === epoch
}
