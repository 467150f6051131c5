// What the cluster could lose right now without a VM staying down: asked of placement's own rules, host by host, on a copy
// of the state in which that host is gone. Pure.

import { isExport } from '../core/exports.ts'
import { externalsOf, isExternal } from '../core/external.ts'
import { isUsable, isWanted, usableHosts, volumesOf } from '../core/hosts.ts'
import { inSyncLegs, isCounting } from '../core/legs.ts'
import { isServing } from '../core/ownership.ts'
import { choose } from '../core/placement.ts'
import type { CoordinatorState, HostRecord, VmRecord, VolumeRecord } from '../core/state.ts'
import { liveOf, sortedHosts } from './hosts.ts'
import { resyncPercent } from './resync.ts'
import type { CanLose } from './schemas.ts'

/** Reasons told; more are counted. */
const REASONS_MAX = 3

export function canLose(state: CoordinatorState): CanLose {
  const host = judge(
    sortedHosts(state).flatMap(lost => withoutHost(state, lost)),
    noHost(state),
  )
  const storage = judge(
    [...state.volumes.values()].flatMap(volume => {
      if (volume.phase === 'deleting') return []
      const why = whyNotWithoutStorage(state, volume)
      return why === null ? [] : [`${volume.name}: ${why}`]
    }),
    null,
  )
  return { summary: `can lose: ${phrase('1 host', host)} · ${phrase('1 storage', storage)}`, host, storage }
}

/** Null: the loss of any one storage leaves an in-sync leg, of a volume that is served. */
function whyNotWithoutStorage(state: CoordinatorState, volume: VolumeRecord): string | null {
  if (volume.legs.length < 2) return 'one leg'
  const syncing = volume.legs.find(leg => leg.role === 'syncing')
  if (syncing !== undefined) return `leg ${syncing.storage} resyncing, ${resyncPercent(state, volume)} %`
  const stale = volume.legs.find(leg => leg.role === 'stale')
  if (stale !== undefined) return `leg ${stale.storage} stale`
  // In sync, and already away: the other one is all there is.
  const hosts = usableHosts(state)
  const away = volume.legs.find(leg => !hosts.some(host => reaches(state, host, leg.storage)))
  if (away !== undefined && hosts.length > 0) return `leg ${away.storage} unreachable`
  return isServing(state, volume.name) ? null : 'no host serves it'
}

function reaches(state: CoordinatorState, host: HostRecord, storage: string): boolean {
  return liveOf(state, host.name).reachableStorages.includes(storage)
}

function judge(reasons: string[], first: string | null): { ok: boolean; why: string[] } {
  const why = first === null ? reasons : [first]
  return { ok: why.length === 0, why }
}

function phrase(what: string, { ok, why }: { ok: boolean; why: readonly string[] }): string {
  if (ok) return `${what} yes`
  const more = why.length > REASONS_MAX ? `, and ${why.length - REASONS_MAX} more` : ''
  return `${what} NO (${why.slice(0, REASONS_MAX).join(', ')}${more})`
}

function noHost(state: CoordinatorState): string | null {
  const usable = usableHosts(state).length
  if (usable === 0) return 'no host is up'
  return usable === 1 ? 'only one host is up' : null
}

/** What would stay down or without an owner if this host were lost now. */
function withoutHost(state: CoordinatorState, lost: HostRecord): string[] {
  // An export ends with its host: there is nothing to stay down.
  const vms = [...state.vms.values()].filter(
    vm => vm.placement?.host === lost.name && isWanted(state, vm) && !isExport(vm),
  )
  const hypothetical = stateWithout(state, lost, vms)
  const stranded: string[] = []
  // Nobody attests the death of a whole host but an operator: what epochs don't protect waits for that.
  for (const vm of vms) {
    const [storage] = waitsForAttestation(state, vm)
    if (storage !== undefined)
      stranded.push(`${lost.name}: ${vm.name} waits for confirm-dead, ${storage} has no epochs`)
  }
  // In the order in which failover would place them.
  for (const vm of vms.sort((a, b) => b.priority - a.priority || (a.name < b.name ? -1 : 1))) {
    const current = hypothetical.vms.get(vm.name) ?? vm
    const choice = choose(hypothetical, current, [], { lastResort: true })
    if (choice.host === null) {
      stranded.push(`${lost.name}: ${vm.name} fits nowhere else`)
      continue
    }
    hypothetical.vms.set(vm.name, { ...current, placement: { ...vm.placement!, host: choice.host.name } })
  }
  for (const volume of state.volumes.values()) {
    if (volume.owner?.host !== lost.name) continue
    // A leg that nobody reaches is given up by whoever becomes its owner.
    const reached = volume.legs.filter(
      leg => isCounting(leg) && usableHosts(state).some(h => reaches(state, h, leg.storage)),
    )
    const heirs = usableHosts(hypothetical).filter(
      host => reached.length > 0 && reached.every(leg => reaches(hypothetical, host, leg.storage)),
    )
    if (heirs.length === 0) stranded.push(`${lost.name}: nobody else reaches ${volume.name}`)
  }
  return stranded
}

/** Storages without epochs that hold the VM up; one beside which another leg enforces them is given up for it. */
function waitsForAttestation(state: CoordinatorState, vm: VmRecord): string[] {
  return volumesOf(vm).flatMap(name => {
    const volume = state.volumes.get(name)
    if (volume === undefined) return []
    const others = inSyncLegs(volume).some(({ storage }) => !isExternal(state, storage))
    return others ? [] : externalsOf(state, volume)
  })
}

function stateWithout(state: CoordinatorState, lost: HostRecord, vms: readonly VmRecord[]): CoordinatorState {
  const hosts = new Map(state.hosts)
  hosts.set(lost.name, { ...lost, phase: 'fenced' })
  const left = new Map(state.vms)
  for (const vm of vms) left.set(vm.name, { ...vm, placement: null, migration: null })
  const liveHosts = new Map(state.liveHosts)
  const copy = { ...state, hosts, vms: left, liveHosts }
  return isUsable(copy, { ...lost, phase: 'fenced' }) ? state : copy
}
