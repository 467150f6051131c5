// The decision about the first write to an extent that is shared: its disk gets one of its own. The order is: copied, on
// every leg → journaled → answered; the host writes there only then. Until then, and for whoever else has it, the shared
// extent stays as it is.
//
// A question may be delivered late, after another asking of the same was answered. The host knows nothing of what such a one would
// move, so it names what it is about: the extent at each index, and the version at which the host knew the map.
//
// What is overwritten whole is copied all the same: a host that dies within its write must find the old data or the new,
// and between the journal and the write there would be neither.

import type { Disk, Entry } from '../format/metadata.ts'
import { copyKey } from './copies.ts'
import { type Decision, done, refused } from './decide.ts'
import { volumeFull } from './decide-extents.ts'
import { atBarrier } from './decide-snapshots.ts'
import { holding } from './holding.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import { type Effect, isShared, type OwnerState, pickFree } from './state.ts'

/** Extents copied at a time, and copied without having been mapped yet. */
export const MAX_COPIES = 64

export function unshare(state: OwnerState, body: VolumeBody<'volume.unshare'>): Decision {
  const held = holding(state, body)
  if ('error' in held) return refused(held.error)
  const { disk } = held
  if (disk.snapshot) {
    return refused(refuse('read-only-disk', `${disk.name} is a snapshot: it is only read`, { where: disk.name }))
  }
  const wait = atBarrier(state, disk)
  if (wait !== null) return wait
  const { references, versions } = state.metadata
  const version = disk.mapVersion + 1
  const runs: number[] = []
  const shared: number[] = []
  const triples: number[] = []
  const missing: number[] = []
  let running = 0
  // A snapshot was made after it was asked: it may be an earlier asking, answered long ago.
  const isOld = body.mapVersion < (state.clonedAt.get(disk.id) ?? 0)
  for (const [index, known] of namedExtents(body)) {
    const from = disk.map.get(index)
    // What is not mapped any more is asked for otherwise.
    if (from === undefined) continue
    if (isOld || from !== known) {
      runs.push(index, from, 1, versions[from]!)
      if (isShared(state, from)) shared.push(index, 1)
      continue
    }
    if (references[from] === 1 && state.comparing.has(from)) {
      running += 1
      continue
    }
    if (references[from] === 1) {
      runs.push(index, from, 1, versions[from]!)
      continue
    }
    const copy = state.copies.get(copyKey(disk.id, index))
    if (copy === undefined) missing.push(index)
    else if (copy.outcome === 'running') running += 1
    else if (copy.outcome === 'done') {
      triples.push(index, from, copy.to)
      runs.push(index, copy.to, 1, version)
    } else {
      const error = refuse('extent-unreadable', `extent ${from} of disk ${disk.name} cannot be read to be copied`, {
        where: disk.name,
        hint: 'a write to it is an error to the guest until its leg can be read there',
      })
      return { type: 'refused', error, forget: { copy: copyKey(disk.id, index) } }
    }
  }
  // What is ready is not kept waiting by the rest: who asked asks for that again.
  if (runs.length > 0 || (missing.length === 0 && running === 0)) {
    const entries: Entry[] = [...held.entries]
    if (triples.length > 0) entries.push({ type: 'remapped', disk: disk.id, version, triples })
    const mapVersion = triples.length > 0 ? version : disk.mapVersion
    return done({ runs, shared, mapVersion, generation: state.generation }, entries)
  }
  const effects = copies(state, disk, missing.slice(0, Math.max(0, MAX_COPIES - state.copies.size)))
  if (effects.length === 0 && running === 0 && state.copies.size < MAX_COPIES) return refused(volumeFull(state))
  return { type: 'wait', for: 'copy', effects }
}

/** Index → the extent that whoever asks has there. */
function namedExtents({ indexes, extents }: VolumeBody<'volume.unshare'>): Map<number, number | undefined> {
  return new Map(indexes.map((index, i) => [index, extents[i]]))
}

function copies(state: OwnerState, disk: Disk, indexes: readonly number[]): Effect[] {
  const free = pickFree(state, indexes.length, true)
  return free.map((to, i) => {
    const index = indexes[i]!
    return { type: 'copy', disk: disk.id, holder: disk.holder, index, from: disk.map.get(index)!, to }
  })
}
