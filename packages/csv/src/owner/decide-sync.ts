// Decisions while a leg catches up: what each host that holds a disk is to copy, and what has been copied. In memory only:
// a new owner, or another generation, begins anew, and what is copied twice does no harm.

import { SYNC_PAGE_RANGES } from '@stellwerk/protocol/messages/volume.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { extentAddress, type Layout } from '../format/layout.ts'
import type { Disk } from '../format/metadata.ts'
import type { StaleLeg } from '../mirror/stale-log.ts'
import { type Decision, done, refused } from './decide.ts'
import { holding } from './holding.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import type { OwnerState } from './state.ts'

export interface SyncState {
  readonly generation: number
  /** Whose marks count; null: the leg was never in sync, it lacks everything. */
  readonly behind: StaleLeg | null
  /** What the slots were found to say it misses. Only added to. */
  readonly missed: Set<number>
  /** Disk → the placement epoch for which the slots were read: whoever held it before has written down all by then. */
  readonly readFor: Map<string, number>
  readonly reading: Set<string>
  /** Disks of which the leg has everything. One that is made empty has it from the first; a clone may not. */
  readonly synced: Set<string>
  /** Extents given back in this generation: whoever had them may still be copying them. Granted again in the next. */
  readonly freed: Set<number>
  /** Detached disks that the owner is copying: nobody gets them for the moment. */
  readonly copying: Set<string>
}

export function syncPlan(state: OwnerState, body: VolumeBody<'volume.sync-plan'>): Decision {
  const { sync } = state
  if (sync === null || sync.generation !== body.generation) return otherGeneration(state, body.generation)
  const held = holding(state, body)
  if ('error' in held) return refused(held.error)
  const { disk } = held
  if (sync.behind !== null && sync.readFor.get(disk.id) !== body.epoch) {
    const effects = sync.reading.has(disk.id)
      ? []
      : ([{ type: 'read-stale', disk: disk.id, epoch: body.epoch }] as const)
    return { type: 'wait', for: 'stale', effects }
  }
  return done(planPage(state.metadata.layout, sync, disk, body.from), held.entries)
}

export function synced(state: OwnerState, body: VolumeBody<'volume.synced'>): Decision {
  const { sync } = state
  if (sync === null || sync.generation !== body.generation) return otherGeneration(state, body.generation)
  const held = holding(state, body)
  if ('error' in held) return refused(held.error)
  return { ...(done({}, held.entries) as Extract<Decision, { type: 'done' }>), synced: held.disk.id }
}

/** Of disks that have these extents the leg lacks more than was thought: they are copied once more. */
export function stillMissed(
  sync: SyncState | null,
  disks: Iterable<Disk>,
  extents: readonly number[],
  regions: ReadonlySet<number>,
): void {
  if (sync === null || regions.size === 0) return
  for (const region of regions) sync.missed.add(region)
  const concerned = new Set(extents)
  for (const disk of disks) {
    if ([...disk.map.values()].some(extent => concerned.has(extent))) sync.synced.delete(disk.id)
  }
}

/** Somebody copies its regions: whoever wants to have it, or to change its map, waits for that. */
export function beingCopied(state: OwnerState, disk: Disk): Decision | null {
  return state.sync?.copying.has(disk.id) === true ? { type: 'wait', for: 'resync', effects: [] } : null
}

/** A disk whose copying the owner can take on: held by nobody, and not among those that rest. */
export function nextDetached(state: OwnerState, rests: (disk: string) => boolean = () => false): Disk | null {
  const { sync } = state
  if (sync === null) return null
  for (const disk of state.metadata.disks.values()) {
    if (disk.holder !== null || disk.reserved !== null) continue
    if (!sync.synced.has(disk.id) && !rests(disk.id)) return disk
  }
  return null
}

export function isSynced(state: OwnerState): boolean {
  const { sync } = state
  if (sync === null) return false
  if (canary('synced-too-early')) return true
  for (const id of state.metadata.disks.keys()) if (!sync.synced.has(id)) return false
  return sync.copying.size === 0
}

/** All that is to be copied, by hosts and the owner, as far as is known; null: no slot was read yet for what it misses. */
export function bytesToSync({ sync, metadata }: OwnerState): number | null {
  if (sync === null) return null
  const { regionBytes, extentBytes } = metadata.layout
  if (sync.behind !== null) return sync.readFor.size + sync.missed.size === 0 ? null : sync.missed.size * regionBytes
  let extents = 0
  for (const disk of metadata.disks.values()) extents += disk.map.size
  return extents * extentBytes
}

/** What the leg lacks of a disk, by ascending index. */
export function planPage(
  layout: Layout,
  sync: Pick<SyncState, 'behind' | 'missed'>,
  disk: Disk,
  from: number,
): { ranges: number[]; next: number | null } {
  if (sync.behind === null && canary('new-leg-not-copied')) return { ranges: [], next: null }
  const perExtent = layout.extentBytes / layout.regionBytes
  const ranges: number[] = []
  for (const index of [...disk.map.keys()].filter(index => index >= from).sort((a, b) => a - b)) {
    if (ranges.length + 2 * perExtent > 2 * SYNC_PAGE_RANGES && ranges.length > 0) return { ranges, next: index }
    const address = extentAddress(layout, disk.map.get(index)!)
    const first = address / layout.regionBytes
    for (let region = first; region < first + perExtent; region += 1) {
      if (sync.behind !== null && !sync.missed.has(region)) continue
      const at = region * layout.regionBytes
      const last = ranges.length - 2
      if (last >= 0 && ranges[last]! + ranges[last + 1]! === at) ranges[last + 1]! += layout.regionBytes
      else ranges.push(at, layout.regionBytes)
    }
  }
  return { ranges, next: null }
}

function otherGeneration(state: OwnerState, asked: number): Decision {
  return refused(
    refuse('other-generation', `this owner is in generation ${state.generation}, not catching up in ${asked}`, {
      where: state.metadata.layout.volumeId,
    }),
  )
}
