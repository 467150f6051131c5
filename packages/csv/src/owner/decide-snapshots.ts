// Decisions about snapshots and clones. Both are one journal entry that names the source: all of its extents are shared as
// of that entry, so nothing is copied and nothing can be half done. A disk in use is asked for a barrier at its host first;
// while that is under way, whatever would change what the host holds waits.

import type { Disk, Entry } from '../format/metadata.ts'
import { type Decision, done, refused } from './decide.ts'
import { diskInfo, findDisk, fitsMappings, metadataFull, missing, roomForDisk, switching } from './decide-disks.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import type { OwnerState } from './state.ts'

/** Disks and snapshots that one hangs on, one behind the other. */
export const MAX_CHAIN = 32

export function snapshotDisk(state: OwnerState, body: VolumeBody<'volume.snapshot-disk'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return missing(body.disk)
  const decision = snapshotOf(state, disk, body)
  if (decision.type !== 'refused' || state.barriers.get(disk.id)?.effect.snapshot !== body.snapshot) return decision
  return { ...decision, forget: { barrier: disk.id } }
}

function snapshotOf(state: OwnerState, disk: Disk, body: VolumeBody<'volume.snapshot-disk'>): Decision {
  const same = made(state, body.snapshot, body.name, disk, true)
  if (same !== null) return same
  if (disk.snapshot) {
    return refused(
      refuse('read-only-disk', `${disk.name} is a snapshot itself`, {
        where: disk.name,
        hint: `clone it: stellwerk disk clone VOLUME ${disk.name} NAME`,
      }),
    )
  }
  if (disk.reserved !== null) return refused(switching(disk))
  const entry: Entry = {
    type: 'disk-cloned',
    disk: body.snapshot,
    name: body.name,
    source: disk.id,
    snapshot: true,
  }
  const wrong = unfit(state, disk, entry)
  if (wrong !== null) return wrong
  const { holder } = disk
  const barrier = state.barriers.get(disk.id)
  if (barrier === undefined) {
    if (holder === null) return cloned(state, disk, entry)
    const effect = { type: 'barrier', disk: disk.id, snapshot: body.snapshot, holder } as const
    return { type: 'wait', for: 'barrier', effects: [effect] }
  }
  // Another snapshot's: its turn comes first.
  if (barrier.effect.snapshot !== body.snapshot || barrier.outcome === 'asked') {
    return { type: 'wait', for: 'barrier', effects: [] }
  }
  if (barrier.outcome !== 'passed') return refused(barrier.outcome)
  return cloned(state, disk, entry)
}

export function cloneDisk(state: OwnerState, body: VolumeBody<'volume.clone-disk'>): Decision {
  const source = findDisk(state, body.snapshot)
  if (source === null) return missing(body.snapshot)
  const same = made(state, body.disk, body.name, source, false)
  if (same !== null) return same
  if (!source.snapshot) {
    return refused(
      refuse('not-a-snapshot', `${source.name} is a disk, only snapshots are cloned`, {
        where: source.name,
        hint: `make one: stellwerk disk snapshot VOLUME ${source.name} NAME`,
      }),
    )
  }
  const entry: Entry = {
    type: 'disk-cloned',
    disk: body.disk,
    name: body.name,
    source: source.id,
    snapshot: false,
  }
  return unfit(state, source, entry) ?? cloned(state, source, entry)
}

/** Asked again: it is there. */
function made(state: OwnerState, id: string, name: string, source: Disk, snapshot: boolean): Decision | null {
  const same = state.metadata.disks.get(id)
  if (same === undefined || same.name !== name || same.parent !== source.id || same.snapshot !== snapshot) return null
  return done(diskInfo(state, same))
}

function unfit(state: OwnerState, source: Disk, entry: Extract<Entry, { type: 'disk-cloned' }>): Decision | null {
  const without = roomForDisk(state, entry.disk, entry.name)
  if (without !== null) return without
  if (chainOf(state, source) >= MAX_CHAIN) {
    return refused(
      refuse('chain-too-long', `${source.name} hangs on ${MAX_CHAIN - 1} disks and snapshots already`, {
        where: source.name,
        hint: 'delete some of those between (their data stay with what was made from them), or copy the disk',
      }),
    )
  }
  // Whatever is free may be mapped one day, and shared extents are copied: a writer is never refused for want of metadata.
  return fitsMappings(state, source.map.size) ? null : refused(metadataFull(state))
}

/** How many hang together from it upwards, itself included. */
export function chainOf(state: OwnerState, disk: Disk): number {
  let length = 1
  for (let at = disk; at.parent !== null && length <= MAX_CHAIN; length += 1) {
    const parent = state.metadata.disks.get(at.parent)
    if (parent === undefined) break
    at = parent
  }
  return length
}

function cloned(state: OwnerState, source: Disk, entry: Extract<Entry, { type: 'disk-cloned' }>): Decision {
  const info = diskInfo(state, source)
  return done(
    {
      ...info,
      disk: entry.disk,
      name: entry.name,
      sharedBytes: info.allocatedBytes,
      parent: source.id,
      snapshot: entry.snapshot,
      mapVersion: source.mapVersion + 1,
      holder: null,
      reserved: null,
    },
    [entry],
  )
}

/** While the host of a disk is asked for a barrier, what it holds must stay as it is. */
export function atBarrier(state: OwnerState, disk: Disk): Decision | null {
  return state.barriers.has(disk.id) ? { type: 'wait', for: 'barrier', effects: [] } : null
}
