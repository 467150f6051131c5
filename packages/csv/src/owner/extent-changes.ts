// Which extents an entry grants, copies or takes from a disk: the evidence for the trace, taken before the entry is applied.
// One that other disks share stays in use when it is freed for one of them.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { type Entry, eachPair, eachTriple } from '../format/metadata.ts'
import type { OwnerState } from './state.ts'

/** `offset`: in the disk; `from`: the extent that was there. */
export type ExtentChange =
  | { readonly kind: 'granted'; readonly disk: string; readonly extent: number; readonly offset: number }
  /** `left`: how many mappings of it there are still. */
  | {
      readonly kind: 'freed'
      readonly disk: string
      readonly extent: number
      readonly offset: number
      readonly left: number
    }
  | {
      readonly kind: 'copied'
      readonly disk: string
      readonly extent: number
      readonly offset: number
      readonly from: number
    }
  /** All of the source's, as they are at this point; `holder`: the host that has the source, and holds its writes back. */
  | {
      readonly kind: 'cloned'
      readonly disk: string
      readonly source: string
      readonly snapshot: boolean
      readonly holder: string | null
    }

/** Of a grant it takes a look at the volume besides. */
export function evidenceOf(change: Exclude<ExtentChange, { kind: 'granted' }>): { kind: string; body: Json } {
  if (change.kind === 'cloned') {
    return { kind: 'disk.cloned', body: { source: change.source, snapshot: change.snapshot, holder: change.holder } }
  }
  const { extent, offset } = change
  if (change.kind === 'copied') return { kind: 'extent.copied', body: { extent, offset, from: change.from } }
  return { kind: 'extent.freed', body: { extent, offset, left: change.left } }
}

export function extentChanges(state: OwnerState, entry: Entry): ExtentChange[] {
  const { disks, references, layout } = state.metadata
  const changes: ExtentChange[] = []
  const add = (kind: 'granted' | 'freed', disk: string, index: number, extent: number): void => {
    const offset = index * layout.extentBytes
    if (kind === 'granted') changes.push({ kind, disk, extent, offset })
    else changes.push({ kind, disk, extent, offset, left: Math.max(0, references[extent]! - 1) })
  }
  switch (entry.type) {
    case 'mapped':
      eachPair(entry.pairs, (index, extent) => add('granted', entry.disk, index, extent))
      return changes
    case 'unmapped':
      eachPair(entry.pairs, (index, extent) => add('freed', entry.disk, index, extent))
      return changes
    case 'remapped':
      eachTriple(entry.triples, (index, from, extent) => {
        changes.push({ kind: 'copied', disk: entry.disk, extent, offset: index * layout.extentBytes, from })
      })
      return changes
    case 'disk-cloned':
      changes.push({
        kind: 'cloned',
        disk: entry.disk,
        source: entry.source,
        snapshot: entry.snapshot,
        holder: disks.get(entry.source)?.holder?.host ?? null,
      })
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
