// The legs of a volume in one generation, as whoever writes to it must know them.

import type { LegRole } from '@stellwerk/block/mirror/generation.ts'

export interface LegState {
  readonly id: string
  /** 0 or 1: where in a slot its stale bitmap stands. */
  readonly index: number
  readonly role: LegRole
  /**
   * The last generation in which it was in sync; null: it never was, so that it lacks everything. `unknown`: the
   * coordinator has not said yet.
   */
  readonly lastInSync: number | null | 'unknown'
}

export interface VolumeGeneration {
  readonly number: number
  readonly legs: readonly LegState[]
}

/** A volume of one leg that no coordinator has given a generation. */
export function oneLeg(id = 'leg-0'): VolumeGeneration {
  return { number: 0, legs: [{ id, index: 0, role: 'in-sync', lastInSync: null }] }
}

/** Legs that miss what is written now, and of which it is kept what they miss. */
export function missingLegs(generation: VolumeGeneration): LegState[] {
  return generation.legs.filter(leg => leg.role === 'stale' && leg.lastInSync !== null)
}

/** Legs that are being made equal: what was marked before must stay marked until they are. */
export function catchingLegs(generation: VolumeGeneration): LegState[] {
  return generation.legs.filter(leg => leg.role === 'syncing')
}
