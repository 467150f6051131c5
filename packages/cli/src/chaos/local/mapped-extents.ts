// The extents that disks and snapshots of a volume have.

import type { Metadata } from '@stellwerk/csv/format/metadata.ts'

/** Each once, also those that several share. */
export function mappedExtents(metadata: Metadata): readonly number[] {
  return [...new Set([...metadata.disks.values()].flatMap(disk => [...disk.map.values()]))]
}
