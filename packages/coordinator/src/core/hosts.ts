// Looking at hosts: what a host may be used for right now. No decisions.

import type { CoordinatorState, HostLive, HostRecord, VmRecord } from './state.ts'

export function newHostLive(state: CoordinatorState): HostLive {
  return {
    session: null,
    incarnation: null,
    lastBeatAt: null,
    lastGrantAt: state.startedAt,
    seenAt: new Map(),
    clean: false,
    ended: false,
    survivors: new Map(),
    suspectSince: null,
    verdict: 'unknown',
    greeted: false,
    cpu: null,
    seen: new Map(),
    peers: new Map(),
    peersAt: 0,
    machines: new Map(),
    machinesKnown: false,
    volumes: new Map(),
    resyncs: new Map(),
    paths: [],
    access: [],
    reachableStorages: [],
    whyNoQemu: NO_QEMU,
    unreachedSince: new Map(),
    mapVersion: 0,
    whyNotMoved: new Map(),
    beatMapVersion: 0,
    silentSince: null,
    fencingSince: null,
    silenceCounted: false,
    whyNotFenced: null,
    stranded: null,
  }
}

/** Of a host that has not said that it does. */
export const NO_QEMU = 'it is not set up to run QEMU machines, or has not looked yet'

/** The live part of a host; made when first asked for. */
export function hostLive(state: CoordinatorState, host: string): HostLive {
  let live = state.liveHosts.get(host)
  if (live === undefined) {
    live = newHostLive(state)
    state.liveHosts.set(host, live)
  }
  return live
}

/** Admitted, beating, and reachable: orders may be given to it. */
export function isUsable(state: CoordinatorState, host: HostRecord): boolean {
  if (host.removed || host.phase !== 'admitted') return false
  const live = hostLive(state, host.name)
  return live.session !== null && live.verdict === 'up'
}

/** A host without a beat for so long is silent. */
export function silentAfterMs({ cluster }: Pick<CoordinatorState, 'cluster'>): number {
  return cluster.settings.heartbeatMs * cluster.settings.suspectBeats
}

export function usableHosts(state: CoordinatorState): HostRecord[] {
  return [...state.hosts.values()].filter(host => isUsable(state, host)).sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Usable hosts whose agents have heard that of this one lately. */
export function whoHears(state: CoordinatorState, host: string, now: number): HostRecord[] {
  const recentMs = state.cluster.settings.heartbeatMs * 2
  return usableHosts(state).filter(other => {
    if (other.name === host) return false
    const view = hostLive(state, other.name)
    const heardAgo = view.peers.get(host)
    return heardAgo !== undefined && heardAgo + (now - view.peersAt) < recentMs
  })
}

/** Who has a path to a storage, and passes on what is asked of it. */
export function whoPassesOn(state: CoordinatorState, storage: string): HostRecord | undefined {
  return usableHosts(state).find(host => state.liveHosts.get(host.name)?.reachableStorages.includes(storage))
}

/** It should run now. */
export function isWanted(state: CoordinatorState, vm: VmRecord): boolean {
  return vm.desired === 'running' && !state.halted
}

/** VMs whose instance is at the host now, or may be: placed there, or being received. Sorted by name. */
export function vmsAt(state: CoordinatorState, host: string): VmRecord[] {
  const found: VmRecord[] = []
  for (const vm of state.vms.values()) {
    if (vm.placement?.host === host || targetOf(state, vm) === host) found.push(vm)
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The target of the VM's migration under way, or null. */
export function targetOf(state: CoordinatorState, vm: VmRecord): string | null {
  if (vm.migration === null) return null
  return state.migrations.get(vm.migration)?.target.host ?? null
}

/** Those with a leg of its volumes that counts: stale ones are written by nobody. */
export function storagesOf(state: CoordinatorState, vm: VmRecord): string[] {
  const names = new Set<string>()
  for (const disk of vm.disks) {
    for (const leg of state.volumes.get(disk.volume)?.legs ?? []) if (leg.role !== 'stale') names.add(leg.storage)
  }
  return [...names].sort()
}

export function volumesOf(vm: VmRecord): string[] {
  return [...new Set(vm.disks.map(disk => disk.volume))].sort()
}
