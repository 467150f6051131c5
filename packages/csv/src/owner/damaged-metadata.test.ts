// An owner over metadata that is damaged: as long as one good copy of everything is somewhere, nothing is lost, and there are
// two again before it serves.

import { BlockError } from '@stellwerk/block/device.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { checkVolume } from '../check.ts'
import { checkpointAfterBytes } from '../format/journal.ts'
import { checkpointAddress, SUPERBLOCK_OFFSETS } from '../format/layout.ts'
import { codeOf, EXTENT } from '../testing/fixture.ts'
import { LegsVolume } from '../testing/legs-fixture.ts'
import { isRedundant } from './load.ts'
import type { VolumeOwner } from './volume-owner.ts'

/** So many journal records, and not a trace of them in the end. */
async function journal(owner: VolumeOwner, records: number): Promise<void> {
  for (let i = 0; i < records / 2; i += 1) {
    await owner.handle('volume.create-disk', { volume: 'csv1', disk: 'd', name: 'd', sizeBytes: EXTENT })
    await owner.handle('volume.delete-disk', { volume: 'csv1', disk: 'd' })
  }
}

/** One disk, two cluster copies, and a newest checkpoint that is nearly as old as one may be. */
async function lateInItsInterval(legs: 1 | 2): Promise<LegsVolume> {
  // In a small one even three intervals have room.
  const volume = await LegsVolume.make(legs, { journalBytes: 2 * MIB })
  const owner = await volume.open(1)
  await owner.handle('volume.create-disk', { volume: 'csv1', disk: 'keep', name: 'keep', sizeBytes: EXTENT })
  for (const version of [1, 2]) {
    await owner.handle('volume.put-cluster-copy', { volume: 'csv1', version, value: { version } })
  }
  // One block each.
  const interval = checkpointAfterBytes(volume.layout) / 4096
  await journal(owner, 3 * interval - 10)
  await owner.close()
  return volume
}

const newestArea = async (volume: LegsVolume, leg = 0): Promise<number> =>
  checkpointAddress(volume.layout, (await volume.loaded(leg)).checkpoint.version)

async function disksOf(owner: VolumeOwner): Promise<string[]> {
  return (await owner.handle('volume.list-disks', { volume: 'csv1' })).disks.map(({ disk }) => disk)
}

describe('a damaged checkpoint', () => {
  it.each([1, 2] as const)('is made good by the next owner, who goes on as long as it likes (legs: %i)', async legs => {
    const volume = await lateInItsInterval(legs)
    const address = await newestArea(volume)
    for (let leg = 0; leg < legs; leg += 1) volume.flip(leg, address + 100)
    const owner = await volume.open(2)
    expect(isRedundant(await volume.loaded())).toBe(true)
    await journal(owner, 1_500)
    await owner.close()
    const next = await volume.open(3)
    expect(await disksOf(next)).toEqual(['keep'])
    expect((await next.check()).findings).toEqual([])
  })

  it('of one leg is taken from the other', async () => {
    const volume = await lateInItsInterval(2)
    const version = (await volume.loaded()).checkpoint.version
    volume.flip(0, checkpointAddress(volume.layout, version) + 100)
    const owner = await volume.open(2)
    const { checkpoint } = await volume.loaded(1)
    expect(checkpoint.version - version).toBeLessThan(2)
    await journal(owner, 1_500)
    await owner.close()
    expect(await disksOf(await volume.open(3))).toEqual(['keep'])
  })

  it('leaves the good one alone until there is another, whenever the owner dies', async () => {
    let dies = true
    for (let writes = 0; dies; writes += 1) {
      const volume = await lateInItsInterval(1)
      volume.flip(0, (await newestArea(volume)) + 100)
      const leg = volume.leg()
      let left = writes
      leg.device.refuse = op => {
        if (op === 'write') left -= 1
        return left < 0 ? new BlockError('ESHUTDOWN', 'unknown', 'it died') : null
      }
      dies = (await codeOf(volume.open(2, { legs: [leg] }))) !== 'resolved'
      expect((await checkVolume([volume.leg()])).clean).toBe(true)
      const owner = await volume.open(3)
      await journal(owner, 1_500)
      expect(await disksOf(owner)).toEqual(['keep'])
    }
  })

  it('nor does a record that only the older one needs keep an owner from going on', async () => {
    const volume = await lateInItsInterval(1)
    const { checkpoints, checkpoint, layout } = await volume.loaded()
    const older = checkpoints.find(each => each !== null && each.version < checkpoint.version)!
    volume.flip(0, layout.journalOffset + older.journalPosition + 100)
    expect(isRedundant(await volume.loaded())).toBe(false)
    const owner = await volume.open(2)
    expect(isRedundant(await volume.loaded())).toBe(true)
    await journal(owner, 1_500)
    expect(await disksOf(owner)).toEqual(['keep'])
  })
})

describe('a leg whose metadata is damaged, beside one that is whole', () => {
  const DAMAGE: readonly (readonly [string, (volume: LegsVolume, leg: number) => Promise<void>])[] = [
    [
      'superblock-damaged',
      async (volume, leg) => {
        for (const at of SUPERBLOCK_OFFSETS) volume.flip(leg, at + 200)
      },
    ],
    [
      'checkpoint-damaged',
      async (volume, leg) => {
        for (const area of [0, 1]) volume.flip(leg, checkpointAddress(volume.layout, area) + 100)
      },
    ],
    [
      'journal-damaged',
      async (volume, leg) => {
        const { layout, records } = await volume.loaded(leg)
        volume.flip(leg, layout.journalOffset + records.at(-2)!.position + 100)
      },
    ],
  ]

  it.each(DAMAGE)('%s: is told, and the volume goes on without it; it is made good again', async (code, plant) => {
    for (const leg of [0, 1]) {
      const volume = await lateInItsInterval(2)
      await plant(volume, leg)
      const before = volume.platters.map(platter => platter.copy())
      expect(await codeOf(volume.open(2))).toBe('leg-damaged')
      const id = volume.generation.legs[leg]!.id
      expect(volume.damaged).toMatchObject([{ leg: id }])
      expect(volume.platters.map(({ pages }) => [...pages])).toEqual(before.map(({ pages }) => [...pages]))

      volume.generation = leg === 0 ? volume.inRoles('stale', 'in-sync') : volume.inRoles('in-sync', 'stale')
      const owner = await volume.open(2)
      expect(await disksOf(owner)).toEqual(['keep'])
      await owner.close()
      volume.generation = leg === 0 ? volume.inRoles('syncing', 'in-sync') : volume.inRoles('in-sync', 'syncing')
      await (await volume.open(3)).close()
      volume.generation = volume.inRoles('in-sync', 'in-sync')
      expect(await disksOf(await volume.open(4))).toEqual(['keep'])
      expect([code, (await checkVolume(volume.legs())).findings]).toEqual([code, []])
    }
  })

  it('is not gone on without if it has a record that the other lacks, or the other lacks an owner', async () => {
    const volume = await lateInItsInterval(2)
    for (const area of [0, 1]) volume.flip(0, checkpointAddress(volume.layout, area) + 100)
    expect(await codeOf(volume.open(2, { leastOwnerEpoch: 7 }))).toBe('journal-lost')
    const { layout, records } = await volume.loaded(1)
    volume.flip(1, layout.journalOffset + records.at(-1)!.position + 100)
    await expect(volume.open(2)).rejects.toThrow(/yet its journal goes on where that of leg san-b ends/)
    expect(volume.damaged).toEqual([])
  })

  it('is not gone on without if it may hold something else, or if no other is whole', async () => {
    const other = await lateInItsInterval(2)
    other.platters[1]!.zero(0, 128 * 1024)
    expect(await codeOf(other.open(2))).toBe('not-a-volume')
    const both = await lateInItsInterval(2)
    for (const at of SUPERBLOCK_OFFSETS) both.flip(0, at + 200)
    for (const area of [0, 1]) both.flip(1, checkpointAddress(both.layout, area) + 100)
    await expect(both.open(2)).rejects.toMatchObject({
      code: 'superblock-damaged',
      where: 'vol-1 leg san-a',
      message: expect.stringContaining('leg san-b: both checkpoints'),
    })
    expect([...other.damaged, ...both.damaged]).toEqual([])
  })
})
