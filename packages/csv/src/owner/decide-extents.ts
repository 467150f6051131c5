// Decisions about extents. A grant takes from the pool of zeroed extents and names disk and index; a free names the map
// version of what it frees, so that one that comes late can't hit an extent granted anew.

import { type Disk, type Entry, eachPair } from '../format/metadata.ts'
import { type Decision, done, refused } from './decide.ts'
import { fitsCheckpoint, metadataFull, switching } from './decide-disks.ts'
import { atBarrier } from './decide-snapshots.ts'
import { holding } from './holding.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import { type Effect, freeExtents, isShared, type OwnerState, POOL_EXTENTS, pickFree } from './state.ts'

/** Leaked extents given back in one go: they fit a journal record of the smallest volume. */
export const MAX_REPAIRED = 512

export function allocate(state: OwnerState, body: VolumeBody<'volume.allocate'>): Decision {
  const held = holding(state, body)
  if ('error' in held) return refused(held.error)
  const { disk } = held
  const wait = disk.snapshot ? refused(readOnly(disk)) : atBarrier(state, disk)
  if (wait !== null) return wait
  const extents = Math.ceil(disk.sizeBytes / state.metadata.layout.extentBytes)
  const outside = body.indexes.find(index => index >= extents)
  if (outside !== undefined) {
    return refused(
      refuse('bad-index', `disk ${disk.name} has ${extents} extents, none at index ${outside}`, { where: disk.name }),
    )
  }
  const needed = [...new Set(body.indexes)].filter(index => !disk.map.has(index))
  if (needed.length > freeExtents(state)) return refused(volumeFull(state))
  if (!fitsCheckpoint(state, 0, needed.length, needed.length)) return refused(metadataFull(state))
  if (needed.length > state.pool.length) {
    return {
      type: 'wait',
      for: 'extents',
      effects: zeroMore(state, needed.length - state.pool.length - state.zeroing.size),
    }
  }
  const wanted = new Set(needed)
  const ahead = [...new Set(body.ahead)].filter(index => index < extents && !disk.map.has(index) && !wanted.has(index))
  const room = fitsCheckpoint(state, 0, needed.length + ahead.length, needed.length + ahead.length)
  const indexes = [...needed, ...(room ? ahead : [])].slice(0, state.pool.length)
  const version = disk.mapVersion + 1
  const pairs = indexes.flatMap((index, i) => [index, state.pool[i]!])
  const entries: Entry[] = [...held.entries]
  if (pairs.length > 0) entries.push({ type: 'mapped', disk: disk.id, version, pairs })

  const runs: number[] = []
  const shared: number[] = []
  for (const index of body.indexes) {
    const extent = disk.map.get(index)
    if (extent === undefined) continue
    runs.push(index, extent, 1, state.metadata.versions[extent]!)
    if (isShared(state, extent)) shared.push(index, 1)
  }
  eachPair(pairs, (index, extent) => runs.push(index, extent, 1, version))
  const left = state.pool.length - indexes.length
  const effects = pairs.length === 0 ? [] : zeroMore(state, POOL_EXTENTS - left - state.zeroing.size)
  const mapVersion = pairs.length > 0 ? version : disk.mapVersion
  return done({ runs, shared, mapVersion, generation: state.generation }, entries, effects)
}

export function free(state: OwnerState, body: VolumeBody<'volume.free'>): Decision {
  const held = holding(state, body)
  if ('error' in held) return refused(held.error)
  const { disk } = held
  const wait = disk.snapshot ? refused(readOnly(disk)) : atBarrier(state, disk)
  if (wait !== null) return wait
  const pairs: number[] = []
  for (let i = 0; i + 3 < body.runs.length; i += 4) {
    const [first, extent, count, version] = body.runs.slice(i, i + 4) as [number, number, number, number]
    for (let n = 0; n < count; n += 1) {
      const named = disk.map.get(first + n) === extent + n && state.metadata.versions[extent + n] === version
      if (named) pairs.push(first + n, extent + n)
    }
  }
  // An earlier asking has freed them, whose answer was lost: whoever asks must not believe them to be still its own.
  if (pairs.length === 0) return done({ mapVersion: disk.mapVersion }, held.entries)
  if (disk.reserved !== null && held.entries.length === 0) return refused(switching(disk))
  const version = disk.mapVersion + 1
  return done({ mapVersion: version }, [...held.entries, { type: 'unmapped', disk: disk.id, version, pairs }])
}

export function volumeFull(state: OwnerState): ReturnType<typeof refuse> {
  return refuse('volume-full', 'the volume has no free extent left', {
    where: state.metadata.layout.volumeId,
    hint: 'delete or trim disks, or give the storage behind it more room; writers go on by themselves',
  })
}

/** What is in use and mapped by nothing goes back: it never should be so, and nobody else can give it back. */
export function repairLeaks(state: OwnerState): Decision {
  const { disks, references } = state.metadata
  const mapped = new Set<number>()
  for (const disk of disks.values()) for (const extent of disk.map.values()) mapped.add(extent)
  const extents: number[] = []
  for (let extent = 0; extent < references.length && extents.length < MAX_REPAIRED; extent += 1) {
    if (references[extent]! > 0 && !mapped.has(extent)) extents.push(extent)
  }
  return done({ freed: extents.length }, extents.length === 0 ? [] : [{ type: 'leaks-freed', extents }])
}

function readOnly(disk: Disk): ReturnType<typeof refuse> {
  return refuse('read-only-disk', `${disk.name} is a snapshot: it is only read`, { where: disk.name })
}

function zeroMore(state: OwnerState, count: number): Effect[] {
  return count <= 0 ? [] : pickFree(state, count).map(extent => ({ type: 'zero', extent }))
}
