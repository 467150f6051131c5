// What is done to a disk at once is done to all of its extents at once, however many there are.

import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { encodeCheckpoint } from '../format/checkpoint.ts'
import { Sealer } from '../format/checksum.ts'
import { OWNER_IO, writeBytes } from '../format/device-io.ts'
import { formatVolume } from '../format/format-volume.ts'
import { checkpointAddress } from '../format/layout.ts'
import { applyEntry, emptyMetadata } from '../format/metadata.ts'
import { codeOf, quietLog, Records } from '../testing/fixture.ts'
import { VolumeOwner } from './volume-owner.ts'

const EXTENT = 4 * MIB
/** Half a terabyte and more. */
const EXTENTS = 140_000

test('a disk of half a terabyte is resized and deleted like any other', async () => {
  const device = new MemoryDevice({ size: 600 * GIB })
  const layout = await formatVolume({ legs: [{ id: 'san-a', device }], volumeId: 'vol-1', clusterId: 'cluster-1' })
  const metadata = emptyMetadata(layout)
  applyEntry(metadata, { type: 'disk-created', disk: 'disk-1', name: 'disk-1', sizeBytes: EXTENTS * EXTENT })
  const pairs = Array.from({ length: 2 * EXTENTS }, (_, i) => Math.floor(i / 2))
  applyEntry(metadata, { type: 'mapped', disk: 'disk-1', version: 1, pairs })
  const address = checkpointAddress(layout, 2)
  const header = { version: 2, sequence: 0, ownerEpoch: 0, journalPosition: 0 }
  await writeBytes(device, address, encodeCheckpoint(header, metadata, new Sealer('vol-1'), address), OWNER_IO)

  const trace = new Records()
  trace.io = false
  const legs = [{ id: 'san-a', device }]
  const owner = await VolumeOwner.open({ legs, volume: 'csv1', ownerEpoch: 1, env: { trace, log: quietLog } })
  const disk = { volume: 'csv1', disk: 'disk-1' }
  expect(await codeOf(owner.handle('volume.resize-disk', { ...disk, sizeBytes: EXTENT }))).toBe('disk-too-small')
  expect(await owner.handle('volume.delete-disk', disk)).toEqual({ existed: true })
  expect(await owner.handle('volume.usage', { volume: 'csv1' })).toMatchObject({ usedBytes: 0, disks: 0 })
  await owner.close()
})
