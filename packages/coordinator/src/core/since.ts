// Since when things are as they are, as this run of the coordinator has seen it; for displays. Decides nothing.

import type { CoordinatorState } from './state.ts'

/** Notes what has changed since the last look. What is no more is forgotten. */
export function noteSince(state: CoordinatorState, now: number): void {
  const { since } = state
  const seen = new Set<string>()
  const note = (key: string, what: string): void => {
    seen.add(key)
    if (since.get(key)?.what !== what) since.set(key, { what, at: now })
  }
  for (const [host, live] of state.liveHosts) {
    for (const { vm, epoch, state: is } of live.machines.values()) note(machineKey(host, vm), `${epoch} ${is}`)
  }
  for (const volume of state.volumes.values()) {
    for (const { leg, role } of volume.legs) note(legKey(volume.name, leg), role === 'in-sync' ? role : 'behind')
  }
  for (const vm of state.vms.values()) note(vmKey(vm.name), vm.lost === null ? 'there' : `lost with ${vm.lost.host}`)
  if (since.size > seen.size) for (const key of [...since.keys()]) if (!seen.has(key)) since.delete(key)
}

/** Null: it was so before this run began, or is not known. */
export function sinceOf(state: CoordinatorState, key: string): number | null {
  return state.since.get(key)?.at ?? null
}

export function machineKey(host: string, vm: string): string {
  return `machine/${host}/${vm}`
}

export function legKey(volume: string, leg: string): string {
  return `leg/${volume}/${leg}`
}

export function vmKey(vm: string): string {
  return `vm/${vm}`
}
