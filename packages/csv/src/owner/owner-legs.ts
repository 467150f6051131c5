// What a generation means to the owner that is opened in it: which legs it writes to and reads from, which of them is
// behind, and what there is to be copied.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Leg } from '../format/device-io.ts'
import { catchingLegs, missingLegs, type VolumeGeneration } from '../mirror/leg-state.ts'
import type { StaleLeg } from '../mirror/stale-log.ts'
import type { SyncState } from './decide-sync.ts'
import type { OwnerLeg } from './settle.ts'

export function allInSync(legs: readonly Leg[]): VolumeGeneration {
  return { number: 0, legs: legs.map(({ id }, index) => ({ id, index, role: 'in-sync', lastInSync: null })) }
}

/** In-sync ones first: these are read. */
export function ownerLegs(legs: readonly Leg[], generation: VolumeGeneration): OwnerLeg[] {
  const known = legs.flatMap(leg => {
    const state = generation.legs.find(each => each.id === leg.id)
    if (state === undefined || state.role === 'stale') return []
    const role = state.role === 'syncing' ? 'syncing' : 'in-sync'
    return [{ ...leg, index: state.index, role } satisfies OwnerLeg]
  })
  assert(
    known.some(leg => leg.role === 'in-sync'),
    'a volume is opened over an in-sync leg',
  )
  return known.sort((a, b) => (a.role === b.role ? a.index - b.index : a.role === 'in-sync' ? -1 : 1))
}

/** The leg whose stale bitmaps count: one that misses what is done now, or that is catching up. */
export function legBehind(generation: VolumeGeneration): StaleLeg | null {
  for (const leg of [...missingLegs(generation), ...catchingLegs(generation)]) {
    if (typeof leg.lastInSync === 'number') return { index: leg.index, lastInSync: leg.lastInSync }
  }
  return null
}

export function syncState(generation: VolumeGeneration): SyncState | null {
  if (catchingLegs(generation).length === 0) return null
  return {
    generation: generation.number,
    behind: legBehind(generation),
    missed: new Set(),
    readFor: new Map(),
    reading: new Set(),
    synced: new Set(),
    freed: new Set(),
    copying: new Set(),
  }
}
