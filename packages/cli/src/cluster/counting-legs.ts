// Which legs of a volume hold all of it, by what their storages were told last: those that the highest generation found calls in sync,
// all of which must be there, for what is here may lack what only a missing one has. One that is there and was told only of an
// earlier one lacks nothing that counts: in a generation nothing is written before all that are in sync in it were told.

import type { LunMarks } from '@stellwerk/protocol/messages/storage.ts'

export interface FoundLeg {
  readonly storage: string
  /** Null: its superblock can't be read. It may be any that is missed: whoever looks closer says why. */
  readonly leg: string | null
  readonly marks: Pick<LunMarks, 'generation' | 'legs'>
}

/** `missing`: legs that are in sync and nowhere; not empty: the others are not the volume. */
export function countingLegs<T extends FoundLeg>(found: readonly T[]): { counting: T[]; missing: string[] } {
  const generation = Math.max(...found.map(({ marks }) => marks.generation))
  const roles = found.find(({ marks }) => marks.generation === generation)?.marks.legs ?? {}
  const isInSync = ({ leg }: FoundLeg): boolean => leg === null || (roles[leg] ?? 'in-sync') === 'in-sync'
  const inSync = found.filter(isInSync)
  const lastTold = Math.max(...inSync.map(({ marks }) => marks.generation))
  const counting = inSync.filter(({ marks }) => marks.generation === lastTold)
  const missing = Object.entries(roles).flatMap(([leg, role]) =>
    role === 'in-sync' && !found.some(each => each.leg === leg) ? [leg] : [],
  )
  const unreadable = counting.filter(({ leg }) => leg === null).length
  return { counting, missing: missing.length <= unreadable ? [] : missing }
}
