// What is done to a disk at once is done to all of its extents at once, however many there are.

import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { encodeCheckpoint } from '../format/checkpoint.ts'
import { Sealer } from '../format/checksum.ts'
import { OWNER_IO, writeBytes } from '../format/device-io.ts'
import { formatVolume } from '../format/format-volume.ts'
import { BLOCK_BYTES, checkpointAddress } from '../format/layout.ts'
import { applyEntry, emptyMetadata } from '../format/metadata.ts'
import { codeOf, quietLog, Records } from '../testing/fixture.ts'
import { VolumeOwner } from './volume-owner.ts'

const EXTENT = 4 * MIB
const EPOCH = 1
const DISK = { volume: 'csv1', disk: 'disk-1' }

/** Counts what is done to it. */
class CountedDevice extends MemoryDevice {
  readonly writes: { readonly offset: number; readonly bytes: number }[] = []
  /** Reads, zeroes and trims. */
  others = 0

  override async read(...of: Parameters<MemoryDevice['read']>): Promise<Uint8Array[]> {
    this.others += 1
    return super.read(...of)
  }

  override async write(...of: Parameters<MemoryDevice['write']>): Promise<void> {
    const [offset, parts] = of
    this.writes.push({ offset, bytes: parts.reduce((sum, { length }) => sum + length, 0) })
    return super.write(...of)
  }

  override async zero(...of: Parameters<MemoryDevice['zero']>): Promise<void> {
    this.others += 1
    return super.zero(...of)
  }

  override async trim(...of: Parameters<MemoryDevice['trim']>): Promise<void> {
    this.others += 1
    return super.trim(...of)
  }
}

/** The owner of a mirrored volume with a disk of so many extents, all of them allocated. */
async function ownerOf(extents: number, volumeBytes: number) {
  const legs = ['san-a', 'san-b'].map(id => ({ id, device: new CountedDevice({ size: volumeBytes }) }))
  const layout = await formatVolume({ legs, volumeId: 'vol-1', clusterId: 'cluster-1' })
  const metadata = emptyMetadata(layout)
  applyEntry(metadata, { type: 'disk-created', disk: 'disk-1', name: 'disk-1', sizeBytes: extents * EXTENT })
  const pairs = Array.from({ length: 2 * extents }, (_, i) => Math.floor(i / 2))
  applyEntry(metadata, { type: 'mapped', disk: 'disk-1', version: 1, pairs })
  const address = checkpointAddress(layout, 2)
  const header = { version: 2, sequence: 0, ownerEpoch: 0, journalPosition: 0 }
  const bytes = encodeCheckpoint(header, metadata, new Sealer('vol-1'), address)
  for (const { device } of legs) await writeBytes(device, address, bytes, OWNER_IO)
  const trace = new Records()
  trace.io = false
  const owner = await VolumeOwner.open({ legs, volume: 'csv1', ownerEpoch: EPOCH, env: { trace, log: quietLog } })
  return { owner, layout, devices: legs.map(({ device }) => device) }
}

test('a disk of half a terabyte is resized and deleted like any other', async () => {
  const { owner } = await ownerOf(140_000, 600 * GIB)
  expect(await codeOf(owner.handle('volume.resize-disk', { ...DISK, sizeBytes: EXTENT }))).toBe('disk-too-small')
  expect(await owner.handle('volume.delete-disk', DISK)).toEqual({ existed: true })
  expect(await owner.handle('volume.usage', { volume: 'csv1' })).toMatchObject({ usedBytes: 0, disks: 0 })
  await owner.close()
})

test('the snapshot of a full disk, and a clone of that, are a block of the journal each: no data are copied', async () => {
  const sizeBytes = 10 * GIB
  const { owner, layout, devices } = await ownerOf(sizeBytes / EXTENT, 12 * GIB)
  const counted = async (request: () => Promise<unknown>) => {
    const before = devices.map(({ writes, others }) => ({ writes: writes.length, others }))
    const answer = await request()
    for (const [i, { writes, others }] of devices.entries()) {
      const [record, ...more] = writes.slice(before[i]?.writes)
      expect([record?.bytes, more, others]).toEqual([BLOCK_BYTES, [], before[i]?.others])
      expect(record?.offset).toBeGreaterThanOrEqual(layout.journalOffset)
      expect(record?.offset).toBeLessThan(layout.journalOffset + layout.journalBytes)
    }
    return answer
  }
  const { volume } = DISK
  const golden = { ...DISK, snapshot: 'disk-2', name: 'golden' }
  expect(await counted(() => owner.handle('volume.snapshot-disk', golden))).toMatchObject({ sizeBytes })
  const copy = { volume, snapshot: 'disk-2', disk: 'disk-3', name: 'copy' }
  const info = { sizeBytes, allocatedBytes: sizeBytes, sharedBytes: sizeBytes }
  expect(await counted(() => owner.handle('volume.clone-disk', copy))).toMatchObject(info)
  expect(await owner.handle('volume.usage', { volume })).toMatchObject({ usedBytes: sizeBytes, disks: 3 })
  await owner.close()
})
