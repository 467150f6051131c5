// Where a VM may run, and where best: a pure function over what is known of the hosts.

import { inMiB } from '@stellwerk/runtime/units.ts'
import { whyNotCpu, whyNotLevel } from './cpu-baseline.ts'
import { hostLive, isUsable, silentAfterMs, storagesOf, targetOf } from './hosts.ts'
import { isQuarantined } from './quarantine.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

export interface Choice {
  readonly host: HostRecord | null
  readonly rejected: readonly { readonly option: string; readonly why: string }[]
  /** Only hosts in quarantine fit. */
  readonly asLastResort: boolean
}

/** Memory of the VMs that are at the host or on their way there. */
export function memoryPlaced(state: CoordinatorState, host: string): number {
  let bytes = 0
  for (const vm of state.vms.values()) {
    if (vm.placement?.host === host || targetOf(state, vm) === host) bytes += vm.spec.memoryBytes
  }
  return bytes
}

/** Why the VM can't run at the host now, or null. */
export function whyNot(state: CoordinatorState, vm: VmRecord, host: HostRecord): string | null {
  const live = hostLive(state, host.name)
  if (host.removed) return 'it was removed'
  if (host.drain !== undefined) return 'it is being drained'
  if (live.stranded?.host === 'left') return 'it is being left: VMs on it have no way to their storage'
  if (host.phase !== 'admitted') return `it is ${host.phase}`
  if (!isUsable(state, host)) return live.verdict === 'up' ? 'its agent is not connected' : `it is ${live.verdict}`
  const free = host.memoryBytes - memoryPlaced(state, host.name)
  if (free < vm.spec.memoryBytes)
    return `it has ${inMiB(free)} of memory free, the VM needs ${inMiB(vm.spec.memoryBytes)}`
  const { nics = [] } = vm.spec
  if (nics.length > 0 && host.guest === undefined) return 'it is not on the guest network'
  if (vm.spec.hypervisor === 'qemu' && live.whyNoQemu !== null) return live.whyNoQemu
  const lesser = whyNotLevel(state, vm, host)
  if (lesser !== null) return lesser
  const missing = storagesOf(state, vm).filter(storage => !live.reachableStorages.includes(storage))
  if (missing.length > 0) return `it does not reach ${missing.join(', ')}`
  return null
}

/** What a VM placed on a quarantined host is there for, and a quarantined host passed over. */
const IN_QUARANTINE = 'it is in quarantine'

/**
 * Fits and least loaded; a preferred host wins if it fits. Hosts in quarantine are left out; with `lastResort` they are
 * taken where no other host fits, so that nothing stays down for their sake. `live`: its machine is to go on there.
 */
export function choose(
  state: CoordinatorState,
  vm: VmRecord,
  without: readonly string[] = [],
  { lastResort = false, live = false }: { readonly lastResort?: boolean; readonly live?: boolean } = {},
): Choice {
  const rejected: { option: string; why: string }[] = []
  const fit: Candidate[] = []
  for (const host of [...state.hosts.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const unfit = whyNot(state, vm, host) ?? (live ? whyNotCpu(state, vm, host) : null)
    const why = without.includes(host.name) ? 'it is the one to leave' : unfit
    if (why !== null) rejected.push({ option: host.name, why })
    else fit.push({ host, load: memoryPlaced(state, host.name) / host.memoryBytes })
  }
  const sound = fit.filter(({ host }) => !isQuarantined(host))
  const quarantined = fit.filter(({ host }) => isQuarantined(host))
  const asLastResort = lastResort && sound.length === 0 && quarantined.length > 0
  if (!asLastResort) for (const { host } of quarantined) rejected.push({ option: host.name, why: IN_QUARANTINE })
  const candidates = asLastResort ? quarantined : sound
  const preferred = candidates.find(candidate => candidate.host.name === vm.preferredHost)
  candidates.sort((a, b) => a.load - b.load)
  const chosen = preferred ?? candidates[0]
  if (chosen === undefined) return { host: null, rejected, asLastResort: false }
  for (const candidate of candidates) {
    if (candidate === chosen) continue
    rejected.push({ option: candidate.host.name, why: whyRather(chosen, candidate, preferred === chosen) })
  }
  return { host: chosen.host, rejected, asLastResort }
}

interface Candidate {
  readonly host: HostRecord
  readonly load: number
}

function whyRather({ host, load }: Candidate, other: Candidate, isPreferred: boolean): string {
  if (isPreferred) return `${host.name} is preferred`
  return other.load > load
    ? 'more of its memory is taken'
    : `as little of its memory is taken, but ${host.name} comes first`
}

/**
 * Soon after its start the coordinator knows hosts that have not reported yet: the first VMs wait for them a little, or they
 * would all go to the first host that does. One that has reported and is silent again is not waited for: what ran there is to run
 * elsewhere as soon as ever. Null: there is nobody to wait for.
 */
export function awaited(state: CoordinatorState, vm: VmRecord, now: number): string | null {
  const leftMs = state.startedAt + state.cluster.settings.startGraceMs - now
  if (leftMs <= 0) return null
  const storages = storagesOf(state, vm)
  const missing = [...state.hosts.values()].filter(host => {
    if (host.removed || isQuarantined(host)) return false
    const { reachableStorages, lastBeatAt } = hostLive(state, host.name)
    if (lastBeatAt !== null && now - lastBeatAt > silentAfterMs(state)) return false
    return !isUsable(state, host) || !storages.every(storage => reachableStorages.includes(storage))
  })
  if (missing.length === 0) return null
  const names = missing.map(host => host.name).sort()
  return `the coordinator has just started and waits for ${names.join(', ')} to report, ${Math.ceil(leftMs)} ms at most`
}
