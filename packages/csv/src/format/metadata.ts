// The volume's metadata as the owner holds them in memory: exactly what checkpoint plus journal say, and how each journal
// entry changes them. Nothing here is volatile, nothing decides; entries are checked by whoever decided them and asserted
// here again, because a replay must come out the same.

import { assert, present, unreachable } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Layout } from './layout.ts'

/** Who may use a disk: a VM at a placement epoch, on a host at a host epoch. */
export interface Holder {
  readonly vm: string
  readonly host: string
  readonly hostEpoch: number
  readonly epoch: number
}

export interface Disk {
  readonly id: string
  readonly name: string
  /** The disk or snapshot it was made from, as long as that is there; null: none. */
  parent: string | null
  /** Read-only: nothing of its map ever changes. */
  readonly snapshot: boolean
  sizeBytes: number
  /** Whose placement epochs count: the VM that held it last, or none yet. */
  vm: string
  /** Raised by every change of the map. */
  mapVersion: number
  /** Placement epochs below this are refused: it was held, or burnt. */
  leastEpoch: number
  holder: Holder | null
  /** The target of a migration that is switching. */
  reserved: Holder | null
  /** Index in the disk → extent of the volume. */
  readonly map: Map<number, number>
}

export interface Metadata {
  readonly layout: Layout
  ownerEpoch: number
  readonly disks: Map<string, Disk>
  readonly slots: Map<string, number>
  /** Per extent: how many mappings name it. 0: free. */
  readonly references: Uint32Array
  /** Per extent: the map version at which it was mapped last. */
  readonly versions: Float64Array
  usedExtents: number
  mappings: number
}

/** Pairs of index and extent, flat. */
export type Pairs = readonly number[]

/** Index, the extent it had, the extent it has now, flat. */
export type Triples = readonly number[]

export type Entry =
  | { readonly type: 'owner'; readonly epoch: number }
  | { readonly type: 'disk-created'; readonly disk: string; readonly name: string; readonly sizeBytes: number }
  | { readonly type: 'disk-deleted'; readonly disk: string }
  | { readonly type: 'disk-resized'; readonly disk: string; readonly sizeBytes: number }
  | { readonly type: 'attached'; readonly disk: string; readonly holder: Holder }
  | { readonly type: 'reserved'; readonly disk: string; readonly holder: Holder }
  | { readonly type: 'committed'; readonly disk: string }
  | { readonly type: 'burnt'; readonly disk: string; readonly epoch: number }
  | { readonly type: 'detached'; readonly disk: string }
  | { readonly type: 'mapped'; readonly disk: string; readonly version: number; readonly pairs: Pairs }
  | { readonly type: 'unmapped'; readonly disk: string; readonly version: number; readonly pairs: Pairs }
  | { readonly type: 'slot-assigned'; readonly slot: number; readonly host: string }
  | { readonly type: 'host-released'; readonly host: string; readonly hostEpoch: number }
  /** A new disk that shares all of the source's extents as they are at this entry. */
  | {
      readonly type: 'disk-cloned'
      readonly disk: string
      readonly name: string
      readonly source: string
      readonly snapshot: boolean
    }
  /** Indexes that shared an extent have one of their own. */
  | { readonly type: 'remapped'; readonly disk: string; readonly version: number; readonly triples: Triples }
  /** Extents in use that nothing maps. */
  | { readonly type: 'leaks-freed'; readonly extents: readonly number[] }

export function emptyMetadata(layout: Layout): Metadata {
  return {
    layout,
    ownerEpoch: 0,
    disks: new Map(),
    slots: new Map(),
    references: new Uint32Array(layout.extentCount),
    versions: new Float64Array(layout.extentCount),
    usedExtents: 0,
    mappings: 0,
  }
}

export function applyEntry(metadata: Metadata, entry: Entry): void {
  switch (entry.type) {
    case 'owner':
      metadata.ownerEpoch = entry.epoch
      return
    case 'disk-created':
      assert(!metadata.disks.has(entry.disk), `disk ${entry.disk} is created twice`)
      metadata.disks.set(entry.disk, {
        id: entry.disk,
        name: entry.name,
        parent: null,
        snapshot: false,
        sizeBytes: entry.sizeBytes,
        vm: '',
        mapVersion: 0,
        leastEpoch: 0,
        holder: null,
        reserved: null,
        map: new Map(),
      })
      return
    case 'disk-deleted': {
      const disk = diskOf(metadata, entry.disk)
      assert(disk.holder === null && disk.reserved === null, `disk ${disk.id} is deleted while it is attached`)
      for (const extent of disk.map.values()) dropReference(metadata, extent)
      metadata.disks.delete(entry.disk)
      // What was made from it hangs on what it was made from: an id may be used again, and a chain gets shorter.
      for (const other of metadata.disks.values()) if (other.parent === entry.disk) other.parent = disk.parent
      return
    }
    case 'disk-resized': {
      const disk = diskOf(metadata, entry.disk)
      disk.sizeBytes = entry.sizeBytes
      const extents = Math.ceil(entry.sizeBytes / metadata.layout.extentBytes)
      for (const [index, extent] of [...disk.map]) {
        if (index < extents) continue
        disk.map.delete(index)
        dropReference(metadata, extent)
      }
      disk.mapVersion += 1
      return
    }
    case 'attached': {
      const disk = diskOf(metadata, entry.disk)
      disk.holder = entry.holder
      disk.reserved = null
      disk.vm = entry.holder.vm
      disk.leastEpoch = entry.holder.epoch
      return
    }
    case 'reserved':
      diskOf(metadata, entry.disk).reserved = entry.holder
      return
    case 'committed': {
      const disk = diskOf(metadata, entry.disk)
      const holder = present(disk.reserved, `a reservation of disk ${disk.id}`)
      disk.holder = holder
      disk.reserved = null
      disk.leastEpoch = Math.max(disk.leastEpoch, holder.epoch)
      return
    }
    case 'burnt': {
      const disk = diskOf(metadata, entry.disk)
      disk.leastEpoch = Math.max(disk.leastEpoch, entry.epoch + 1)
      if (disk.reserved !== null && disk.reserved.epoch === entry.epoch) disk.reserved = null
      return
    }
    case 'detached':
      diskOf(metadata, entry.disk).holder = null
      return
    case 'mapped': {
      const disk = diskOf(metadata, entry.disk)
      disk.mapVersion = entry.version
      eachPair(entry.pairs, (index, extent) => {
        assert(!disk.map.has(index), `disk ${disk.id} maps index ${index} twice`)
        assert(metadata.references[extent] === 0, `extent ${extent} is granted while it is in use`)
        disk.map.set(index, extent)
        metadata.references[extent] = 1
        metadata.versions[extent] = entry.version
        metadata.usedExtents += 1
        metadata.mappings += 1
      })
      return
    }
    case 'unmapped': {
      const disk = diskOf(metadata, entry.disk)
      disk.mapVersion = entry.version
      eachPair(entry.pairs, (index, extent) => {
        assert(disk.map.get(index) === extent, `disk ${disk.id} frees extent ${extent}, which index ${index} has not`)
        disk.map.delete(index)
        dropReference(metadata, extent)
      })
      return
    }
    case 'slot-assigned':
      metadata.slots.set(entry.host, entry.slot)
      return
    case 'host-released':
      for (const disk of metadata.disks.values()) {
        const { holder, reserved } = disk
        if (holder?.host === entry.host && holder.hostEpoch <= entry.hostEpoch) disk.holder = null
        if (reserved?.host === entry.host && reserved.hostEpoch <= entry.hostEpoch) {
          disk.reserved = null
          disk.leastEpoch = Math.max(disk.leastEpoch, reserved.epoch + 1)
        }
      }
      return
    case 'disk-cloned':
      cloneDisk(metadata, entry)
      return
    case 'remapped': {
      const disk = diskOf(metadata, entry.disk)
      disk.mapVersion = entry.version
      eachTriple(entry.triples, (index, from, to) => {
        assert(disk.map.get(index) === from, `disk ${disk.id} copies extent ${from}, which index ${index} has not`)
        assert(metadata.references[to] === 0, `extent ${to} is given for a copy while it is in use`)
        dropReference(metadata, from)
        disk.map.set(index, to)
        metadata.references[to] = 1
        metadata.versions[to] = entry.version
        metadata.usedExtents += 1
        metadata.mappings += 1
      })
      return
    }
    case 'leaks-freed':
      for (const extent of entry.extents) {
        assert((metadata.references[extent] ?? 0) > 0, `extent ${extent} is repaired and free already`)
        metadata.references[extent] = 0
        metadata.usedExtents -= 1
      }
      return
    default:
      unreachable(entry)
  }
}

/** The source's map gets a new version: the one in which all of it is shared. */
function cloneDisk(metadata: Metadata, entry: Extract<Entry, { type: 'disk-cloned' }>): void {
  assert(!metadata.disks.has(entry.disk), `disk ${entry.disk} is created twice`)
  const source = diskOf(metadata, entry.source)
  source.mapVersion += 1
  metadata.disks.set(entry.disk, {
    id: entry.disk,
    name: entry.name,
    parent: source.id,
    snapshot: entry.snapshot,
    sizeBytes: source.sizeBytes,
    vm: '',
    mapVersion: source.mapVersion,
    leastEpoch: 0,
    holder: null,
    reserved: null,
    map: new Map(source.map),
  })
  metadata.mappings += source.map.size
  if (canary('clone-refcount-missed')) return
  for (const extent of source.map.values()) metadata.references[extent] = metadata.references[extent]! + 1
}

export function eachTriple(triples: Triples, f: (index: number, from: number, to: number) => void): void {
  for (let i = 0; i < triples.length; i += 3) f(triples[i]!, triples[i + 1]!, triples[i + 2]!)
}

export function eachPair(pairs: Pairs, f: (index: number, extent: number) => void): void {
  for (let i = 0; i < pairs.length; i += 2) f(pairs[i]!, pairs[i + 1]!)
}

function diskOf(metadata: Metadata, id: string): Disk {
  return present(metadata.disks.get(id), `disk ${id}`)
}

function dropReference(metadata: Metadata, extent: number): void {
  const references = metadata.references[extent]
  assert(references !== undefined && references > 0, `extent ${extent} loses a reference it has not`)
  metadata.references[extent] = references - 1
  metadata.mappings -= 1
  if (references === 1) metadata.usedExtents -= 1
}
