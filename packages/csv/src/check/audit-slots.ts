// What stands in the hosts' slots, against the metadata: whose a slot is, and that it marks only extents of disks its host
// holds (or is about to hold).

import type { BlockDevice } from '@stellwerk/block/device.ts'
import { Sealer } from '../format/checksum.ts'
import { readWhatCan, SPARED_IO } from '../format/device-io.ts'
import { BLOCK_BYTES, slotAddress } from '../format/layout.ts'
import type { Metadata } from '../format/metadata.ts'
import { decodeSlotHeader, readIntent } from '../format/slot.ts'
import { type Finding, finding } from './finding.ts'

export async function auditSlotAreas(device: BlockDevice, metadata: Metadata): Promise<Finding[]> {
  const { layout } = metadata
  const sealer = new Sealer(layout.volumeId)
  const hosts = new Map([...metadata.slots].map(([host, slot]) => [slot, host]))
  const found: Finding[] = []
  for (let slot = 0; slot < layout.slotCount; slot += 1) {
    const address = slotAddress(layout, slot)
    const where = `slot ${slot}`
    const { bytes, unreadable } = await readWhatCan(device, address, BLOCK_BYTES, SPARED_IO)
    const header = decodeSlotHeader(bytes, sealer, address)
    const intent = await readIntent(device, address, sealer, SPARED_IO)
    const host = hosts.get(slot)
    for (const sector of intent.damagedSectors) {
      const message = `intent sector ${sector} does not check out: all its host holds counts as marked`
      found.push(finding('intent-damaged', 'degraded', where, message))
    }
    if (header === 'damaged') {
      found.push(
        finding('slot-damaged', host === undefined ? 'degraded' : 'damage', where, 'its header does not check out'),
      )
    } else if (host !== undefined && unreadable.size === 0 && header?.host !== host) {
      found.push(
        finding('slot-wrong-host', 'damage', where, `it is ${host}'s, its header says ${header?.host ?? 'nobody'}`),
      )
    }
    if (host === undefined) {
      // A slot prepared for a host whose assignment was never journaled is empty, and harmless.
      if (intent.regions.length > 0) {
        const message = `it marks ${intent.regions.length} regions, and is no host's`
        found.push(finding('slot-unknown-host', 'damage', where, message))
      }
      continue
    }
    found.push(...auditMarks(metadata, host, where, intent.regions))
  }
  return found
}

function auditMarks(metadata: Metadata, host: string, where: string, regions: readonly number[]): Finding[] {
  const { layout, references } = metadata
  const own = new Set<number>()
  for (const disk of metadata.disks.values()) {
    if (disk.holder?.host !== host && disk.reserved?.host !== host) continue
    for (const extent of disk.map.values()) own.add(extent)
  }
  const found: Finding[] = []
  // Not damage: a host dies, a successor takes its disks over, and only then its slot is recovered; recovery leaves alone
  // what the host does not hold.
  for (const region of regions) {
    const extent = Math.floor((region * layout.regionBytes - layout.dataOffset) / layout.extentBytes)
    if (extent < 0 || extent >= layout.extentCount || references[extent] === 0) {
      found.push(finding('intent-outside-extents', 'degraded', where, `region ${region} belongs to no extent in use`))
    } else if (!own.has(extent)) {
      found.push(finding('intent-not-held', 'degraded', where, `region ${region} is of a disk ${host} does not hold`))
    }
  }
  return found
}
