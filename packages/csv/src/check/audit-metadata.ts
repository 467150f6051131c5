// The invariants of a volume's metadata, whatever made them: each extent's references are what the maps say, what is shared
// stands at one index, maps stay
// within disk and volume, names are unique, attachments make sense. Pure.

import { BLOCK_BYTES } from '../format/layout.ts'
import type { Disk, Metadata } from '../format/metadata.ts'
import { type Finding, finding } from './finding.ts'

export function auditMetadata(metadata: Metadata): Finding[] {
  return [...auditDisks(metadata), ...auditExtents(metadata), ...auditSlots(metadata)]
}

function auditDisks(metadata: Metadata): Finding[] {
  const found: Finding[] = []
  const { layout } = metadata
  const names = new Map<string, string>()
  for (const disk of metadata.disks.values()) {
    for (const name of new Set([disk.id, disk.name])) {
      const other = names.get(name)
      if (other !== undefined) {
        found.push(finding('disk-name-twice', 'damage', `disk ${disk.id}`, `${name} also names disk ${other}`))
      }
      names.set(name, disk.id)
    }
    if (disk.sizeBytes <= 0 || disk.sizeBytes % BLOCK_BYTES !== 0) {
      found.push(finding('disk-size-wrong', 'damage', `disk ${disk.id}`, `its size is ${disk.sizeBytes} bytes`))
    }
    const extents = Math.ceil(disk.sizeBytes / layout.extentBytes)
    for (const [index, extent] of disk.map) {
      const where = `disk ${disk.id} index ${index}`
      if (index >= extents) found.push(finding('map-beyond-disk', 'damage', where, `the disk has ${extents} extents`))
      if (extent >= layout.extentCount) {
        found.push(
          finding('map-beyond-volume', 'damage', where, `extent ${extent} of a volume with ${layout.extentCount}`),
        )
      }
    }
    found.push(...auditAttachment(metadata, disk), ...auditParents(metadata, disk))
  }
  return found
}

/** What it was made from, and what that was, ends somewhere, and on this volume. */
function auditParents(metadata: Metadata, disk: Disk): Finding[] {
  const where = `disk ${disk.id}`
  if (disk.parent !== null && !metadata.disks.has(disk.parent)) {
    return [finding('parent-missing', 'damage', where, `it was made from ${disk.parent}, which is not there`)]
  }
  const seen = new Set([disk.id])
  for (let at = disk.parent; at !== null; at = metadata.disks.get(at)?.parent ?? null) {
    if (seen.has(at)) return [finding('parent-circular', 'damage', where, `what it was made from goes back to ${at}`)]
    seen.add(at)
  }
  return []
}

function auditAttachment(metadata: Metadata, disk: Disk): Finding[] {
  const found: Finding[] = []
  const { holder, reserved } = disk
  const where = `disk ${disk.id}`
  for (const each of [holder, reserved]) {
    if (each === null || metadata.slots.has(each.host)) continue
    found.push(finding('attachment-host-unknown', 'damage', where, `${each.host} holds it and has no slot`))
  }
  if (reserved !== null && holder !== null && reserved.epoch <= holder.epoch) {
    const message = `reserved at epoch ${reserved.epoch}, held at ${holder.epoch}`
    found.push(finding('attachment-epoch-wrong', 'damage', where, message))
  }
  return found
}

function auditExtents(metadata: Metadata): Finding[] {
  const found: Finding[] = []
  const { layout, references, versions } = metadata
  const mapped = new Map<number, { count: number; disks: string[]; version: number; indexes: Set<number> }>()
  for (const disk of metadata.disks.values()) {
    for (const [index, extent] of disk.map) {
      const seen = mapped.get(extent) ?? { count: 0, disks: [], version: 0, indexes: new Set() }
      seen.count += 1
      seen.indexes.add(index)
      seen.disks.push(`${disk.id}[${index}]`)
      seen.version = Math.max(seen.version, disk.mapVersion)
      mapped.set(extent, seen)
    }
  }
  for (let extent = 0; extent < layout.extentCount; extent += 1) {
    const counted = references[extent]!
    const seen = mapped.get(extent)
    const where = `extent ${extent}`
    if (seen === undefined) {
      if (counted > 0) {
        found.push(finding('extent-leaked', 'leak', where, `${counted} references are counted, nothing maps it`))
      }
      continue
    }
    if (seen.count > 1 && counted <= 1) {
      found.push(finding('extent-mapped-twice', 'damage', where, `${seen.disks.join(' and ')} map it, unshared`))
    } else if (seen.count !== counted) {
      const message = `${counted} references are counted, there are ${seen.count}`
      found.push(finding('reference-count-wrong', 'damage', where, message))
    }
    // Only clones share, and a clone has everything where its source has it.
    if (seen.indexes.size > 1) {
      const message = `${seen.disks.join(' and ')} have it at different places`
      found.push(finding('shared-at-different-indexes', 'damage', where, message))
    }
    if (versions[extent]! > seen.version) {
      const message = `mapped at version ${versions[extent]}, after its disk's ${seen.version}`
      found.push(finding('extent-version-wrong', 'damage', where, message))
    }
  }
  return found
}

function auditSlots(metadata: Metadata): Finding[] {
  const found: Finding[] = []
  const hosts = new Map<number, string>()
  for (const [host, slot] of metadata.slots) {
    const where = `slot ${slot}`
    const other = hosts.get(slot)
    if (other !== undefined) found.push(finding('slot-twice', 'damage', where, `both ${other}'s and ${host}'s`))
    hosts.set(slot, host)
    if (slot >= metadata.layout.slotCount) {
      found.push(finding('slot-beyond-volume', 'damage', where, `the volume has ${metadata.layout.slotCount}`))
    }
  }
  return found
}
