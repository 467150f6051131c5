// Which extents an entry grants or frees: the evidence for the trace, taken before the entry is applied.

import { type Entry, eachPair } from '../format/metadata.ts'
import type { OwnerState } from './state.ts'

export interface ExtentChange {
  readonly kind: 'granted' | 'freed'
  readonly disk: string
  readonly extent: number
  /** In the disk. */
  readonly offset: number
}

export function extentChanges(state: OwnerState, entry: Entry): ExtentChange[] {
  const { disks, references, layout } = state.metadata
  const changes: ExtentChange[] = []
  const add = (kind: ExtentChange['kind'], disk: string, index: number, extent: number): void => {
    // A shared extent that loses one of its disks is not free.
    if (kind === 'freed' && references[extent] !== 1) return
    changes.push({ kind, disk, extent, offset: index * layout.extentBytes })
  }
  switch (entry.type) {
    case 'mapped':
      eachPair(entry.pairs, (index, extent) => add('granted', entry.disk, index, extent))
      return changes
    case 'unmapped':
      eachPair(entry.pairs, (index, extent) => add('freed', entry.disk, index, extent))
      return changes
    case 'disk-deleted':
    case 'disk-resized': {
      const kept = entry.type === 'disk-deleted' ? 0 : Math.ceil(entry.sizeBytes / layout.extentBytes)
      for (const [index, extent] of disks.get(entry.disk)?.map ?? []) {
        if (index >= kept) add('freed', entry.disk, index, extent)
      }
      return changes
    }
    default:
      return changes
  }
}
