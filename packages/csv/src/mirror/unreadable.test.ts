// Blocks that a leg cannot read while others are made equal to it: what can be had is, what cannot is told, and nothing stands still
// for it that need not.

import { KIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { CsvDisk } from '../disk/csv-disk.ts'
import { extentAddress, regionCount, slotAddresses, staleAreaBytes } from '../format/layout.ts'
import { staleAreaAddress } from '../format/stale.ts'
import { loadLeg } from '../owner/load.ts'
import { CrashDevice } from '../testing/crash-device.ts'
import { EXTENT, IO } from '../testing/fixture.ts'
import { generation, MirroredVolume } from '../testing/mirror-fixture.ts'

const BLOCK = 4096
const WITHOUT_B = generation(2, ['in-sync', 'stale'], [null, 1])
const B_SYNCING = generation(3, ['in-sync', 'syncing'], [null, 1])
const bytes = (value: number, length = BLOCK): Uint8Array[] => [new Uint8Array(length).fill(value)]

async function withDisk() {
  const volume = await MirroredVolume.make()
  const host = await volume.host()
  await volume.call('volume.create-disk', { volume: 'csv1', disk: 'web', name: 'web', sizeBytes: 16 * EXTENT })
  const web = await CsvDisk.attach({ volume: host.volume, disk: 'web', vm: 'vm-web', epoch: 1 })
  for (let i = 0; i < 4; i += 1) await web.write(i * EXTENT, bytes(1), {}, IO)
  const release = () => volume.call('volume.release-host', { volume: 'csv1', host: 'host-a', hostEpoch: 1 })
  const dies = async () => {
    host.volume.drop('dead')
    host.mirror.abort('dead')
    await release()
  }
  const detach = async () => {
    await web.drain()
    await web.close()
    await volume.call('volume.detach', { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1 })
  }
  /** The block of the disk's that many bytes in, which no leg whose number is given can read any more. */
  const spoil = async (at: number, ...legs: number[]): Promise<number> => {
    const { metadata } = await loadLeg({ id: 'leg-0', device: new CrashDevice(volume.platters[0]!) }, {})
    const extent = metadata.disks.get('web')!.map.get(Math.floor(at / EXTENT))!
    const address = extentAddress(volume.layout, extent) + (at % EXTENT)
    for (const leg of legs) volume.latent[leg]!.add(address / BLOCK)
    return address
  }
  return { volume, host, web, dies, detach, spoil }
}

/** The leg misses four extents, of which one block cannot be read. */
async function catchingUp() {
  const bench = await withDisk()
  const { volume, host, web } = bench
  await volume.enter(WITHOUT_B)
  await host.follow()
  for (let i = 0; i < 4; i += 1) await web.write(i * EXTENT, bytes(2, 2 * BLOCK), {}, IO)
  return bench
}

describe('a leg that catches up with one of which a block cannot be read (MIR1)', () => {
  it('gets all else from the host, says what it lacks, and has everything once a guest has written there', async () => {
    const { volume, host, web, spoil } = await catchingUp()
    const bad = await spoil(EXTENT + BLOCK, 0)
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: false })
    expect(host.volume.resync.progress?.why).toContain(
      `one block cannot be read on any leg in sync, one at byte ${bad}`,
    )
    expect(await volume.differing()).toEqual([bad])
    // Only what is left is tried again, and not all the time.
    const before = volume.copies.length
    await volume.timers.advance(60_000)
    expect(volume.copies.length - before).toBeLessThanOrEqual(7)
    await web.write(EXTENT + BLOCK, bytes(3), {}, IO)
    await volume.timers.advance(11_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(host.volume.resync.progress?.why).toBeUndefined()
    expect(await volume.differing()).toEqual([])
  })

  it('does not keep its host from copying its other disks', async () => {
    const { volume, host, spoil } = await catchingUp()
    await volume.call('volume.create-disk', { volume: 'csv1', disk: 'zoo', name: 'zoo', sizeBytes: 16 * EXTENT })
    const zoo = await CsvDisk.attach({ volume: host.volume, disk: 'zoo', vm: 'vm-zoo', epoch: 1 })
    await zoo.write(0, bytes(4), {}, IO)
    const bad = await spoil(EXTENT + BLOCK, 0)
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: false, disks: 2, synced: 1 })
    expect(host.volume.resync.progress?.why).toContain(`web: one block cannot be read`)
    expect(await volume.differing()).toEqual([bad])
  })

  it('likewise from the owner, who goes on with other disks meanwhile', async () => {
    const { volume, host, detach, spoil } = await catchingUp()
    await volume.call('volume.create-disk', { volume: 'csv1', disk: 'zoo', name: 'zoo', sizeBytes: 16 * EXTENT })
    const zoo = await CsvDisk.attach({ volume: host.volume, disk: 'zoo', vm: 'vm-zoo', epoch: 1 })
    await zoo.write(0, bytes(4), {}, IO)
    await zoo.drain()
    await zoo.close()
    await volume.call('volume.detach', { volume: 'csv1', disk: 'zoo', host: 'host-a', epoch: 1 })
    await detach()
    const bad = await spoil(EXTENT + BLOCK, 0)
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: false, disks: 2, synced: 1 })
    expect(volume.owner.sync?.why).toContain(`web: one block cannot be read on any leg in sync, one at byte ${bad}`)
    expect(await volume.differing()).toEqual([bad])
    volume.latent[0]!.clear()
    await volume.timers.advance(11_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(volume.owner.sync?.why).toBeUndefined()
    expect(await volume.differing()).toEqual([])
  })

  it('does not keep the slot of a host that died from being recovered, and still lacks that block', async () => {
    const { volume, host, web, dies, spoil } = await catchingUp()
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    await web.write(EXTENT + BLOCK, bytes(5), {}, IO)
    // The host died before the second leg had it.
    const bad = await spoil(EXTENT + BLOCK, 0)
    volume.platters[1]!.write(bad, new Uint8Array(BLOCK).fill(1))
    await dies()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: false })
    expect(volume.owner.sync?.why).toContain(`one at byte ${bad}`)
    // Nor is it forgotten by the next owner.
    await volume.enter(B_SYNCING, 2)
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: false })
    volume.latent[0]!.clear()
    await volume.timers.advance(11_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
  })
})

describe('where it cannot be read what a leg that catches up has missed (MIR1)', () => {
  it('all is copied, and what the leg misses from then on is written down', async () => {
    const { volume, host, web } = await catchingUp()
    const { layout } = volume
    const slots = slotAddresses(layout)
    for (const slot of slots) {
      const address = staleAreaAddress(slot, 1, regionCount(layout))
      for (let at = 0; at < staleAreaBytes(regionCount(layout)); at += BLOCK)
        volume.latent[0]!.add((address + at) / BLOCK)
    }
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
    await web.write(0, bytes(8), {}, IO)
    expect(await volume.differing()).toEqual([])
  })
})

describe('of two legs in sync, one of which cannot read a block (MIR1)', () => {
  it('the owner takes it from the other, for a host that died, and writes it anew', async () => {
    const { volume, web, dies, spoil } = await withDisk()
    await web.write(0, bytes(6), {}, IO)
    const bad = await spoil(0, 0)
    volume.platters[0]!.write(bad, new Uint8Array(BLOCK).fill(9))
    await dies()
    expect(await volume.differing()).toEqual([])
    expect(volume.latent[0]!.size).toBe(0)
    expect(volume.platters[0]!.read(bad, 1)[0]).toBe(6)
  })

  it('likewise the host that opens its own slot again', async () => {
    const { volume, host, web, spoil } = await withDisk()
    await web.write(0, bytes(6), {}, IO)
    const bad = await spoil(0, 0)
    volume.platters[0]!.write(bad, new Uint8Array(BLOCK).fill(9))
    host.volume.drop('gone')
    host.mirror.abort('gone')
    await volume.host()
    expect(await volume.differing()).toEqual([])
    expect(volume.platters[0]!.read(bad, 1)[0]).toBe(6)
  })

  it('what neither can read is not taken for equal: it may be read again, and differ', async () => {
    const { web, dies, spoil } = await withDisk()
    await web.write(0, bytes(6), {}, IO)
    await spoil(0, 0, 1)
    await expect(dies()).rejects.toThrow()
  })
})

describe('a shared extent of which each leg cannot read another block', () => {
  it('is copied for its writer, block by block, and no leg is written to where it is shared', async () => {
    const { volume, web, spoil, detach } = await withDisk()
    await web.write(0, bytes(5, 16 * KIB), {}, IO)
    await detach()
    await volume.call('volume.snapshot-disk', { volume: 'csv1', disk: 'web', snapshot: 'snap', name: 'snap' })
    const [first, second] = [await spoil(0, 0), await spoil(BLOCK, 1)]
    const again = await CsvDisk.attach({ volume: volume.hosts.get('host-a')!, disk: 'web', vm: 'vm-web', epoch: 2 })
    await again.write(2 * BLOCK, bytes(6), {}, IO)
    const read = Buffer.concat(await again.read(0, 4 * BLOCK, IO))
    expect([0, 1, 2, 3].map(block => read[block * BLOCK])).toEqual([5, 5, 6, 5])
    expect([volume.latent[0]!.has(first / BLOCK), volume.latent[1]!.has(second / BLOCK)]).toEqual([true, true])
  })
})
