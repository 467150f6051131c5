// The copy of the cluster's VM definitions and epochs that each volume keeps, so that a lost coordinator can be restored:
// an opaque JSON text with a version, in one of two areas by turns. Needs no owner to be read.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { getU64, setU64, viewOf } from './bytes.ts'
import { Sealer } from './checksum.ts'
import { readWhatCan } from './device-io.ts'
import { BLOCK_BYTES, blocks, CLUSTER_COPY, CLUSTER_COPY_HEADER_BYTES, type Layout } from './layout.ts'

export const CLUSTER_COPY_MAGIC = 0x43435753

export interface ClusterCopy {
  readonly version: number
  readonly ownerEpoch: number
  readonly value: Json
}

/** The two areas: what stands in each, and which is to be written next. */
export interface FoundClusterCopy {
  readonly areas: readonly (ClusterCopy | 'blank' | 'damaged')[]
  readonly newest: ClusterCopy | null
  readonly nextArea: number
}

export function clusterCopyAddress(layout: Layout, area: number): number {
  return layout.clusterCopyOffset + area * layout.clusterCopyBytes
}

export function maxClusterCopyBytes(layout: Layout): number {
  return layout.clusterCopyBytes - CLUSTER_COPY_HEADER_BYTES
}

export function encodeClusterCopy(copy: ClusterCopy, layout: Layout, address: number): Uint8Array {
  const payload = new TextEncoder().encode(JSON.stringify(copy.value))
  const length = blocks(CLUSTER_COPY_HEADER_BYTES + payload.length)
  assert(length <= layout.clusterCopyBytes, 'the cluster copy does not fit its area')
  const bytes = new Uint8Array(length)
  const view = viewOf(bytes)
  view.setUint32(CLUSTER_COPY.magic.offset, CLUSTER_COPY_MAGIC, true)
  setU64(view, CLUSTER_COPY.version.offset, copy.version)
  setU64(view, CLUSTER_COPY.ownerEpoch.offset, copy.ownerEpoch)
  view.setUint32(CLUSTER_COPY.payloadBytes.offset, payload.length, true)
  bytes.set(payload, CLUSTER_COPY_HEADER_BYTES)
  new Sealer(layout.volumeId).seal(address, bytes, CLUSTER_COPY.crc.offset)
  return bytes
}

export async function findClusterCopy(device: BlockDevice, layout: Layout, io: Io): Promise<FoundClusterCopy> {
  const areas: (ClusterCopy | 'blank' | 'damaged')[] = []
  for (const area of [0, 1]) areas.push(await readArea(device, layout, clusterCopyAddress(layout, area), io))
  const [first, second] = areas as [ClusterCopy | string, ClusterCopy | string]
  const a = typeof first === 'string' ? null : first
  const b = typeof second === 'string' ? null : second
  const newest = a !== null && (b === null || a.version > b.version) ? a : b
  return { areas, newest, nextArea: newest !== null && newest === a ? 1 : 0 }
}

/** Of the copy in an area; null: none checks out there. */
export function sealedClusterCopyVersion(area: Uint8Array, layout: Layout, address: number): number | null {
  if (sealedClusterCopyBytes(area, layout, address) === null) return null
  return getU64(viewOf(area), CLUSTER_COPY.version.offset)
}

/** How many bytes of an area its copy takes, if it checks out there. */
export function sealedClusterCopyBytes(area: Uint8Array, layout: Layout, address: number): number | null {
  const head = viewOf(area)
  if (head.getUint32(CLUSTER_COPY.magic.offset, true) !== CLUSTER_COPY_MAGIC) return null
  const length = blocks(CLUSTER_COPY_HEADER_BYTES + head.getUint32(CLUSTER_COPY.payloadBytes.offset, true))
  if (length > layout.clusterCopyBytes) return null
  const bytes = area.subarray(0, length)
  return new Sealer(layout.volumeId).isSealed(address, bytes, CLUSTER_COPY.crc.offset) ? length : null
}

async function readArea(
  device: BlockDevice,
  layout: Layout,
  address: number,
  io: Io,
): Promise<ClusterCopy | 'blank' | 'damaged'> {
  const first = await readWhatCan(device, address, BLOCK_BYTES, io)
  if (first.unreadable.size > 0) return 'damaged'
  const head = viewOf(first.bytes)
  const magic = head.getUint32(CLUSTER_COPY.magic.offset, true)
  if (magic === 0) return 'blank'
  const payloadBytes = head.getUint32(CLUSTER_COPY.payloadBytes.offset, true)
  const length = blocks(CLUSTER_COPY_HEADER_BYTES + payloadBytes)
  if (magic !== CLUSTER_COPY_MAGIC || length > layout.clusterCopyBytes) return 'damaged'
  // What cannot be read is zeroes here, and does not check out.
  const { bytes } = await readWhatCan(device, address, length, io)
  if (!new Sealer(layout.volumeId).isSealed(address, bytes, CLUSTER_COPY.crc.offset)) return 'damaged'
  const payload = bytes.subarray(CLUSTER_COPY_HEADER_BYTES, CLUSTER_COPY_HEADER_BYTES + payloadBytes)
  return {
    version: getU64(head, CLUSTER_COPY.version.offset),
    ownerEpoch: getU64(head, CLUSTER_COPY.ownerEpoch.offset),
    value: JSON.parse(new TextDecoder().decode(payload)) as Json,
  }
}
