// Blocks of a volume's own metadata that cannot be read: a copy serves, and they are written anew; but never is one taken for the
// journal's end where an acknowledged record may stand.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { checkVolume } from '../check.ts'
import { clusterCopyAddress, findClusterCopy } from '../format/cluster-copy.ts'
import { formatVolume } from '../format/format-volume.ts'
import { BLOCK_BYTES, checkpointAddress, SUPERBLOCK_OFFSETS, slotAddress } from '../format/layout.ts'
import { CrashDevice, Platter } from '../testing/crash-device.ts'
import { codeOf, EXTENT, host, IO, legOn, SMALL } from '../testing/fixture.ts'
import { LegsVolume } from '../testing/legs-fixture.ts'
import { isRedundant, type Loaded } from './load.ts'
import type { VolumeOwner } from './volume-owner.ts'

/** With long names, so that a checkpoint is longer than a block. */
const create = (owner: VolumeOwner, disk: string) =>
  owner.handle('volume.create-disk', {
    ...{ volume: 'csv1', disk: disk.padEnd(60, '-'), name: disk.padEnd(60, '+'), sizeBytes: EXTENT },
  })

async function disksOf(owner: VolumeOwner): Promise<string[]> {
  return (await owner.handle('volume.list-disks', { volume: 'csv1' })).disks.map(({ disk }) => disk)
}

/** A host's slot, two cluster copies, and so many records: each is a block, but the last, which makes disks `a0`… at once, is longer. */
async function subject(legs: 1 | 2, records = 55, atOnce = 60): Promise<LegsVolume> {
  const volume = await LegsVolume.make(legs)
  const owner = await volume.open(1)
  await owner.handle('volume.open-host', host)
  for (const version of [1, 2]) {
    await owner.handle('volume.put-cluster-copy', { volume: 'csv1', version, value: { version } })
  }
  for (let i = 0; i < records; i += 1) await create(owner, `d${i}`)
  await Promise.all(Array.from({ length: atOnce }, (_, i) => create(owner, `a${i}`)))
  await owner.close()
  return volume
}

const all = 115
const lastOf = ({ layout, records }: Loaded): number => layout.journalOffset + records.at(-1)!.position

/** Where another copy serves, or nothing is needed. */
const SPARED: readonly (readonly [string, (loaded: Loaded) => number])[] = [
  ['the first superblock', () => SUPERBLOCK_OFFSETS[0]],
  ['the second superblock', () => SUPERBLOCK_OFFSETS[1]],
  ['the newest checkpoint', ({ layout, checkpoint }) => checkpointAddress(layout, checkpoint.version)],
  [
    'inside of it',
    ({ layout, checkpoint }) => checkpointAddress(layout, checkpoint.version) + checkpoint.length - BLOCK_BYTES,
  ],
  ['the other checkpoint', ({ layout, checkpoint }) => checkpointAddress(layout, checkpoint.version + 1)],
  [
    'a record that only the other needs',
    ({ layout, checkpoint }) => layout.journalOffset + checkpoint.journalPosition - BLOCK_BYTES,
  ],
  ['an old place in the ring', ({ layout, position }) => layout.journalOffset + position + 3 * BLOCK_BYTES],
  ['the slot of a host', ({ layout }) => slotAddress(layout, 0)],
  ['the slot of nobody', ({ layout }) => slotAddress(layout, 2)],
]

/** Where the next record, or one that is there, may stand. */
const NEEDED: readonly (readonly [string, (loaded: Loaded) => number])[] = [
  ['the journal’s end', ({ layout, position }) => layout.journalOffset + position],
  ['the last record', loaded => lastOf(loaded)],
  ['the last block of it', loaded => lastOf(loaded) + loaded.records.at(-1)!.length - BLOCK_BYTES],
  ['a record in between', ({ layout, records }) => layout.journalOffset + records.at(-3)!.position],
]

afterEach(() => canaries.clear())

describe('a block of the only leg’s metadata that cannot be read', () => {
  it.each(SPARED)('%s: the owner opens, and has made it good', async (_, place) => {
    const volume = await subject(1)
    const loaded = await volume.loaded()
    expect(loaded.checkpoint.length).toBeGreaterThan(BLOCK_BYTES)
    volume.latent[0]!.add(place(loaded))
    const found = (await checkVolume(volume.legs())).findings
    expect(found.length).toBeGreaterThan(0)
    expect(found.every(({ severity }) => severity === 'degraded')).toBe(true)
    const owner = await volume.open(2)
    expect(await disksOf(owner)).toHaveLength(all)
    expect((await owner.check()).findings).toEqual([])
    expect([volume.latent[0]!.size, isRedundant(await volume.loaded())]).toEqual([0, true])
    await owner.close()
    const report = await checkVolume(volume.legs())
    expect([report.findings, report.summary?.disks]).toEqual([[], all])
  })

  it.each(NEEDED)('%s: no owner opens, and nothing is written, until it is read again', async (_, place) => {
    const volume = await subject(1)
    volume.latent[0]!.add(place(await volume.loaded()))
    const leg = volume.leg()
    await expect(volume.open(2, { legs: [leg] })).rejects.toMatchObject({
      code: 'journal-damaged',
      where: 'vol-1 leg san-a',
      message: expect.stringMatching(/may stand where the block at byte \d+ of the volume cannot be read/),
    })
    expect(leg.device.writes).toBe(0)
    const report = await checkVolume(volume.legs())
    expect(report.findings.map(({ code }) => code).sort()).toEqual(['journal-damaged', 'unreadable'])
    expect(report.clean).toBe(false)
    volume.latent[0]!.clear()
    expect(await disksOf(await volume.open(2))).toHaveLength(all)
  })

  it('the ring’s first: only where the next record may not fit its end', async () => {
    // Records of one block, from the first owner's and the host's slot's on.
    for (const [records, code] of [
      [57, 'resolved'],
      [59, 'journal-damaged'],
      [62, 'journal-damaged'],
    ] as const) {
      const volume = await subject(1, records, 0)
      const { layout, position } = await volume.loaded()
      expect(position).toBe((records + 2) * BLOCK_BYTES)
      volume.latent[0]!.add(layout.journalOffset)
      expect([records, await codeOf(volume.open(2))]).toEqual([records, code])
    }
  })

  it('the newest copy of the cluster: the older one serves, and the next is written over it', async () => {
    const volume = await subject(1)
    volume.latent[0]!.add(clusterCopyAddress(volume.layout, (await newestCopy(volume)).area))
    const owner = await volume.open(2)
    expect(await owner.handle('volume.get-cluster-copy', { volume: 'csv1' })).toMatchObject({ version: 1 })
    // It may be read again, until there is a newer one.
    expect(volume.latent[0]!.size).toBe(1)
    await owner.handle('volume.put-cluster-copy', { volume: 'csv1', version: 3, value: { version: 3 } })
    expect(volume.latent[0]!.size).toBe(0)
    await owner.close()
    expect((await checkVolume(volume.legs())).findings).toEqual([])
  })

  it('what a host marks counts as all that it holds, and its slot is given anew', async () => {
    const volume = await subject(1)
    volume.latent[0]!.add(slotAddress(volume.layout, 0) + BLOCK_BYTES)
    expect((await checkVolume(volume.legs())).findings).toMatchObject([
      { code: 'intent-damaged' },
      ...Array(7).fill({}),
    ])
    const owner = await volume.open(2)
    await owner.handle('volume.release-host', { volume: 'csv1', host: 'host-a', hostEpoch: 1 })
    await owner.close()
    expect((await checkVolume(volume.legs())).findings).toEqual([])
  })

  it('the canary unreadable-is-journal-end loses what was acknowledged', async () => {
    const volume = await subject(1)
    volume.latent[0]!.add(lastOf(await volume.loaded()))
    canaries.add('unreadable-is-journal-end')
    expect(await disksOf(await volume.open(2))).toHaveLength(55)
  })
})

async function newestCopy(volume: LegsVolume, leg = 0): Promise<{ area: number; version: number | undefined }> {
  const found = await findClusterCopy(volume.leg(leg).device, volume.layout, IO)
  return { area: 1 - found.nextArea, version: found.newest?.version }
}

describe('of two legs in sync, one of which cannot read a block of its metadata', () => {
  it.each(SPARED)('%s: it is the same on both again', async (_, place) => {
    for (const leg of [0, 1]) {
      const volume = await subject(2)
      volume.latent[leg]!.add(place(await volume.loaded()))
      const owner = await volume.open(2)
      expect(await disksOf(owner)).toHaveLength(all)
      expect((await owner.check()).findings).toEqual([])
      const { layout } = volume
      expect(volume.isEqual(layout.checkpointOffset, layout.slotsOffset)).toBe(true)
      expect([volume.latent[leg]!.size, volume.damaged]).toEqual([0, []])
    }
  })

  it.each(NEEDED)('%s: the volume goes on without that leg, which is made good', async (_, place) => {
    const volume = await subject(2)
    volume.latent[0]!.add(place(await volume.loaded()))
    expect(await codeOf(volume.open(2))).toBe('leg-damaged')
    expect(volume.damaged).toMatchObject([{ leg: 'san-a', why: expect.stringContaining('cannot be read') }])
    volume.generation = volume.inRoles('syncing', 'in-sync')
    const owner = await volume.open(3)
    expect(await disksOf(owner)).toHaveLength(all)
    expect(volume.latent[0]!.size).toBe(0)
    const { layout } = volume
    expect(volume.isEqual(layout.checkpointOffset, layout.slotsOffset)).toBe(true)
  })

  it('each copy of the cluster, and each header, is taken from where it is whole', async () => {
    const volume = await subject(2)
    const { layout } = volume
    volume.latent[0]!.add(clusterCopyAddress(layout, 0))
    volume.flip(1, clusterCopyAddress(layout, 1) + 70)
    volume.flip(0, slotAddress(layout, 0) + 30)
    const owner = await volume.open(2)
    expect(await owner.handle('volume.get-cluster-copy', { volume: 'csv1' })).toMatchObject({ version: 2 })
    expect((await owner.check()).findings).toEqual([])
    expect([await newestCopy(volume, 0), await newestCopy(volume, 1)]).toMatchObject([{ version: 2 }, { version: 2 }])
    expect(volume.isEqual(layout.clusterCopyOffset, layout.slotsOffset)).toBe(true)
  })

  it('a leg that catches up needs nothing that can be read', async () => {
    const volume = await subject(2)
    const { layout } = volume
    const { position } = await volume.loaded()
    const bad = [
      ...SUPERBLOCK_OFFSETS,
      layout.checkpointOffset,
      layout.journalOffset + position,
      layout.clusterCopyOffset,
    ]
    for (const address of [...bad, slotAddress(layout, 0)]) volume.latent[1]!.add(address)
    volume.generation = volume.inRoles('in-sync', 'syncing')
    await (await volume.open(2)).close()
    volume.generation = volume.inRoles('in-sync', 'in-sync')
    expect(await disksOf(await volume.open(3))).toHaveLength(all)
    expect([volume.latent[1]!.size, (await checkVolume(volume.legs())).findings]).toEqual([0, []])
  })
})

describe('a device that cannot be read where a superblock would be', () => {
  const unreadable = (platter: Platter, ...offsets: number[]) => {
    const volume = legOn(platter)
    const latent = new Set(offsets)
    const read = volume.device.read.bind(volume.device)
    volume.device.read = async (offset, length, io) => {
      if (latent.has(offset)) return Promise.reject(await badSpot())
      return read(offset, length, io)
    }
    return volume
  }
  const badSpot = async () => {
    const { BlockError } = await import('@stellwerk/block/device.ts')
    return new BlockError('EIO', 'none', 'a sector that cannot be read')
  }

  it('is not formatted, since it may carry a volume', async () => {
    const leg = unreadable(new Platter(8 * MIB), SUPERBLOCK_OFFSETS[1])
    expect(await codeOf(formatVolume({ ...SMALL, legs: [leg] }))).toBe('unreadable')
    expect(leg.device.writes).toBe(0)
    const platter = new Platter(8 * MIB)
    await formatVolume({ ...SMALL, legs: [{ id: 'san-a', device: new CrashDevice(platter) }] })
    expect(await codeOf(formatVolume({ ...SMALL, legs: [unreadable(platter, 0)] }))).toBe('volume-exists')
  })

  it('is no leg that a resync may write over by itself, if the other superblock is blank', async () => {
    const volume = await subject(2)
    volume.platters[1]!.zero(0, BLOCK_BYTES)
    volume.latent[1]!.add(SUPERBLOCK_OFFSETS[1])
    expect(await codeOf(volume.open(2))).toBe('not-a-volume')
    volume.latent[1]!.add(SUPERBLOCK_OFFSETS[0])
    expect(await codeOf(volume.open(2))).toBe('leg-damaged')
  })
})
