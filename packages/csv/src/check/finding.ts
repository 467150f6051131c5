// What a check of a volume can find. The codes are API.

import { errorCode } from '@stellwerk/runtime/errors.ts'

export type FindingCode =
  // The volume as a whole.
  | 'not-a-volume'
  | 'superblock-damaged'
  | 'superblock-copy-damaged'
  | 'superblock-conflict'
  | 'superblock-geometry'
  | 'foreign-volume'
  | 'format-unsupported'
  | 'volume-truncated'
  | 'checkpoint-damaged'
  | 'checkpoint-copy-damaged'
  | 'malformed'
  | 'journal-damaged'
  | 'journal-epoch'
  | 'journal-inconsistent'
  /** The storage saw a later owner finish opening than the journal knows of. */
  | 'journal-lost'
  | 'journal-record-misdirected'
  | 'cluster-copy-damaged'
  | 'cluster-copy-missing'
  | 'legs-differ'
  | 'unreadable'
  /** Only of a volume that is open: what is durable is not what its owner believes. */
  | 'owner-differs'
  // The metadata.
  | 'extent-mapped-twice'
  | 'reference-count-wrong'
  | 'extent-leaked'
  | 'shared-at-different-indexes'
  | 'parent-missing'
  | 'parent-circular'
  | 'extent-version-wrong'
  | 'map-beyond-disk'
  | 'map-beyond-volume'
  | 'disk-name-twice'
  | 'disk-size-wrong'
  | 'attachment-host-unknown'
  | 'attachment-epoch-wrong'
  | 'slot-twice'
  | 'slot-beyond-volume'
  // The slots.
  | 'slot-damaged'
  | 'slot-wrong-host'
  | 'slot-unknown-host'
  | 'intent-damaged'
  | 'intent-outside-extents'
  | 'intent-not-held'

/**
 * `damage`: what is there contradicts itself, and an owner refuses it or what it concerns; `degraded`: a copy is bad or
 * was torn, another serves; `leak`: room that nobody can use, which `repairLeaks` gives back.
 */
export type Severity = 'damage' | 'degraded' | 'leak'

export interface Finding {
  readonly code: FindingCode
  readonly severity: Severity
  /** A disk, an extent, a slot, an area: within the volume. */
  readonly where: string
  readonly message: string
}

export function finding(code: FindingCode, severity: Severity, where: string, message: string): Finding {
  return { code, severity, where, message }
}

/** What reading a volume rejects with where it is damaged. */
const OF_READING: ReadonlySet<string> = new Set<FindingCode>([
  'not-a-volume',
  'superblock-damaged',
  'superblock-conflict',
  'superblock-geometry',
  'foreign-volume',
  'format-unsupported',
  'volume-truncated',
  'checkpoint-damaged',
  'malformed',
  'journal-damaged',
  'journal-epoch',
  'journal-inconsistent',
  'journal-lost',
])

/** Of these: what stands there may be something else than this volume, or belongs to a version to come. */
const NOT_ITS_OWN: ReadonlySet<string> = new Set<FindingCode>([
  'not-a-volume',
  'superblock-conflict',
  'foreign-volume',
  'format-unsupported',
  'volume-truncated',
])

export function isFindingCode(code: string): code is FindingCode {
  return OF_READING.has(code)
}

/** The volume's own: no other host would open it either. */
export function isVolumeDamage(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'metadata-damaged' || OF_READING.has(code)
}

/** Damage of a leg that surely is this volume's: it may be written anew from another one. */
export function isLegDamage(error: unknown): boolean {
  return isVolumeDamage(error) && !NOT_ITS_OWN.has(errorCode(error))
}
