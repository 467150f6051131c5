// The redundant copies on a leg: superblocks, checkpoints, the cluster's copy, and journal records that stand where they
// were not written. What one bad copy means depends on whether another is good.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { viewOf } from '../format/bytes.ts'
import { Sealer } from '../format/checksum.ts'
import { clusterCopyAddress, findClusterCopy } from '../format/cluster-copy.ts'
import { type Leg, type Readout, readWhatCan, SPARED_IO } from '../format/device-io.ts'
import { decodeRecord, maxRecordBytes, RECORD_MAGIC } from '../format/journal.ts'
import {
  BLOCK_BYTES,
  blocks,
  checkpointAddress,
  type Layout,
  RECORD,
  RECORD_HEADER_BYTES,
  SUPERBLOCK_OFFSETS,
  slotAddress,
} from '../format/layout.ts'
import type { Metadata } from '../format/metadata.ts'
import { readSuperblockCopies } from '../format/superblock.ts'
import { loadCheckpoint } from '../owner/load.ts'
import { type Finding, finding } from './finding.ts'

export async function auditSuperblocks(leg: Leg): Promise<Finding[]> {
  const copies = await readSuperblockCopies(leg.device, SPARED_IO)
  if (copies.every(copy => typeof copy === 'string')) return []
  const found: Finding[] = []
  for (const [i, copy] of copies.entries()) {
    if (typeof copy !== 'string') continue
    const where = `superblock at ${SUPERBLOCK_OFFSETS[i]}`
    switch (copy) {
      case 'blank':
      case 'damaged':
      case 'unreadable':
        found.push(finding('superblock-copy-damaged', 'degraded', where, `it is ${copy}; the other copy is good`))
        break
      case 'unsupported':
        found.push(finding('format-unsupported', 'damage', where, 'it is of another format version'))
        break
      default:
        unreachable(copy)
    }
  }
  return found
}

export async function auditCheckpoints(leg: Leg, layout: Layout): Promise<Finding[]> {
  const sealer = new Sealer(layout.volumeId)
  const found: Finding[] = []
  let good = 0
  for (const area of [0, 1]) {
    try {
      if ((await loadCheckpoint(leg, layout, sealer, area)) !== null) {
        good += 1
        continue
      }
      const message = 'it does not check out: torn by a crash, or damaged; the other serves'
      found.push(finding('checkpoint-copy-damaged', 'degraded', `checkpoint ${area}`, message))
    } catch (error) {
      if (errorCode(error) !== 'malformed') throw error
      found.push(finding('malformed', 'damage', `checkpoint ${area}`, (error as Error).message))
    }
  }
  return good > 0 ? found : []
}

export async function auditClusterCopy(leg: Leg, layout: Layout): Promise<Finding[]> {
  const { areas, newest } = await findClusterCopy(leg.device, layout, SPARED_IO)
  return areas.flatMap((area, i) => {
    if (area !== 'damaged') return []
    const severity = newest === null ? 'damage' : 'degraded'
    return [finding('cluster-copy-damaged', severity, `cluster copy ${i}`, 'it does not check out')]
  })
}

/** Whoever makes a disk is a cluster, and a cluster keeps a copy of itself on every volume. */
export async function auditMissingCopy(leg: Leg, { layout, disks }: Metadata): Promise<Finding[]> {
  if (disks.size === 0) return []
  const { areas } = await findClusterCopy(leg.device, layout, SPARED_IO)
  if (!areas.every(area => area === 'blank')) return []
  const message = 'there is none, although there are disks: a lost coordinator cannot be restored from this volume'
  return [finding('cluster-copy-missing', 'degraded', 'cluster copies', message)]
}

/**
 * Blocks of the metadata that cannot be read. By itself that is no damage: another copy serves, or nothing is needed there; what is
 * needed and has no other copy is found missing by whoever reads it.
 */
export async function auditUnreadable(leg: Leg, layout: Layout, ring: Readout): Promise<Finding[]> {
  const areas: [string, number, number][] = []
  for (const area of [0, 1]) {
    areas.push([`checkpoint ${area}`, checkpointAddress(layout, area), layout.checkpointBytes])
    areas.push([`cluster copy ${area}`, clusterCopyAddress(layout, area), layout.clusterCopyBytes])
  }
  for (let slot = 0; slot < layout.slotCount; slot += 1) {
    areas.push([`slot ${slot}`, slotAddress(layout, slot), BLOCK_BYTES])
  }
  const found = unreadableIn('journal', layout.journalOffset, ring)
  for (const [where, address, length] of areas) {
    found.push(...unreadableIn(where, address, await readWhatCan(leg.device, address, length, SPARED_IO)))
  }
  return found
}

function unreadableIn(where: string, address: number, { unreadable: [...blocks] }: Readout): Finding[] {
  const [first, ...others] = blocks
  if (first === undefined) return []
  const more = others.length === 0 ? '' : `, and ${others.length} more`
  return [finding('unreadable', 'degraded', where, `the block at byte ${address + first} cannot be read${more}`)]
}

/** Blocks that hold a record sealed for another place of the ring. */
export function auditMisdirected(ring: Uint8Array, layout: Layout): Finding[] {
  const sealer = new Sealer(layout.volumeId)
  const found: Finding[] = []
  for (let at = 0; at < ring.length; at += BLOCK_BYTES) {
    const view = viewOf(ring.subarray(at, at + BLOCK_BYTES))
    if (view.getUint32(RECORD.magic.offset, true) !== RECORD_MAGIC) continue
    if (decodeRecord(ring, at, layout, sealer) !== null) continue
    const length = blocks(RECORD_HEADER_BYTES + view.getUint32(RECORD.payloadBytes.offset, true))
    if (length > maxRecordBytes(layout) || at + length > ring.length) continue
    const bytes = ring.subarray(at, at + length)
    for (let home = 0; home < ring.length; home += BLOCK_BYTES) {
      if (!sealer.isSealed(layout.journalOffset + home, bytes, RECORD.crc.offset)) continue
      const message = `it holds a record that belongs at ${home}`
      found.push(finding('journal-record-misdirected', 'degraded', `journal at ${at}`, message))
    }
  }
  return found
}
