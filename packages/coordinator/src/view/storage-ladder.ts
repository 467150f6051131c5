// On which rung of the storage-loss ladder a VM stands, since when, and why (DESIGN section 7): another HBA, redirected over a
// peer, the other leg, held still, being moved, being started again elsewhere. Pure.

import { legKey, machineKey, sinceOf, vmKey } from '../core/since.ts'
import type { CoordinatorState, LegRecord, VmRecord } from '../core/state.ts'
import { accessOfHost } from './access.ts'
import { ageOfHost, isFresh, liveOf } from './hosts.ts'
import type { VmView } from './schemas.ts'

export type StorageRung = NonNullable<VmView['storage']>

/** From the best to the worst: of several legs and volumes the worst counts. */
const RUNGS = ['direct', 'other-hba', 'redirected', 'other-leg', 'waiting', 'frozen', 'moving', 'restarting'] as const

/** Null: it has no disks, does not run, or its host is not heard. */
export function storageRung(state: CoordinatorState, vm: VmRecord, now: number): StorageRung | null {
  if (vm.disks.length === 0) return null
  const lasts = (key: string): number | null => {
    const at = sinceOf(state, key)
    return at === null ? null : Math.max(0, now - at)
  }
  const { placement, lost } = vm
  if (placement === null) {
    if (lost === null || vm.desired !== 'running') return null
    const why = state.liveVms.get(vm.name)?.whyNot ?? `its host ${lost.host} was lost`
    return { rung: 'restarting', sinceMs: lasts(vmKey(vm.name)), volume: null, storage: null, why }
  }
  if (!isFresh(state, placement.host, now)) return null
  const worst = worstOf(volumesOf(vm).flatMap(volume => ofVolume(state, placement.host, volume, now)))
  if (worst === null) return null
  const migration = vm.migration === null ? undefined : state.migrations.get(vm.migration)
  if (migration !== undefined && rank(worst) > 0) {
    const begun = state.liveMigrations.get(migration.id)?.phaseSince
    const sinceMs = begun === undefined ? null : Math.max(0, now - begun)
    return { ...worst, rung: 'moving', sinceMs, why: `to ${migration.target.host}; ${worst.rung}: ${worst.why}` }
  }
  const machine = state.liveHosts.get(placement.host)?.machines.get(vm.name)
  if (machine?.epoch !== placement.epoch || machine.state !== 'frozen') return worst
  return {
    ...worst,
    rung: 'frozen',
    sinceMs: lasts(machineKey(placement.host, vm.name)),
    why: machine.why ?? worst.why,
  }
}

/** `redirected for 12 s, csv1 on san-a: via host-b; no path is up`. */
export function rungText({ rung, sinceMs, volume, storage, why }: StorageRung): string {
  const since = sinceMs === null ? '' : ` for ${Math.round(sinceMs / 1000)} s`
  const where = volume === null ? '' : `, ${volume} on ${storage}`
  return `${rung}${since}${where}: ${why}`
}

function volumesOf(vm: VmRecord): string[] {
  return [...new Set(vm.disks.map(disk => disk.volume))].sort()
}

function rank({ rung }: StorageRung): number {
  return RUNGS.indexOf(rung as (typeof RUNGS)[number])
}

function worstOf(rungs: readonly StorageRung[]): StorageRung | null {
  let worst: StorageRung | null = null
  for (const each of rungs) if (worst === null || rank(each) > rank(worst)) worst = each
  return worst
}

function ofVolume(state: CoordinatorState, host: string, name: string, now: number): StorageRung[] {
  const volume = state.volumes.get(name)
  if (volume === undefined) return []
  return volume.legs.flatMap(leg => {
    if (leg.role === 'in-sync') return ofLeg(state, host, name, leg, now)
    const at = sinceOf(state, legKey(name, leg.leg))
    const why =
      leg.role === 'syncing' ? `${leg.leg} catches up` : (state.liveVolumes.get(name)?.why ?? `${leg.leg} is stale`)
    const sinceMs = at === null ? null : Math.max(0, now - at)
    return { rung: 'other-leg', sinceMs, volume: name, storage: leg.storage, why }
  })
}

/** How a host gets at a leg that is in sync; nothing: it does not have it open. */
function ofLeg(
  state: CoordinatorState,
  host: string,
  volume: string,
  { storage }: LegRecord,
  now: number,
): StorageRung[] {
  const access = accessOfHost(state, host, now).find(each => each.volume === volume && each.storage === storage)
  if (access === undefined) return []
  const about = { volume, storage }
  switch (access.state) {
    case 'redirected': {
      const why = access.via === null ? access.why : `via ${access.via}; ${access.why}`
      return [{ ...about, rung: 'redirected', sinceMs: access.sinceMs, why }]
    }
    case 'paused':
      return [{ ...about, rung: 'waiting', sinceMs: access.sinceMs, why: access.why }]
    default: {
      const away = liveOf(state, host).paths.filter(
        path => path.storage === storage && path.state === 'failed' && !path.path.startsWith('redirected'),
      )
      const [first] = away.sort((a, b) => b.sinceMs - a.sinceMs)
      if (first === undefined) return [{ ...about, rung: 'direct', sinceMs: access.sinceMs, why: access.why }]
      const sinceMs = first.sinceMs + (ageOfHost(state, host, now) ?? 0)
      return [{ ...about, rung: 'other-hba', sinceMs, why: `${first.path} has failed: ${first.why}` }]
    }
  }
}
