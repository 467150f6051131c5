// What a check of a volume can find. The codes are API.

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
