// MIR1, below the simulation: what a leg missed while it was away, whoever wrote it, is on it when it counts again.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { CsvDisk } from '../disk/csv-disk.ts'
import { EXTENT, IO } from '../testing/fixture.ts'
import { generation, MirroredVolume } from '../testing/mirror-fixture.ts'

const BOTH = generation(1, ['in-sync', 'in-sync'])
const WITHOUT_B = generation(2, ['in-sync', 'stale'], [null, 1])
const B_SYNCING = generation(3, ['in-sync', 'syncing'], [null, 1])
const AGAIN = generation(4, ['in-sync', 'in-sync'], [null, 3])

const bytes = (value: number, length = 4096): Uint8Array[] => [new Uint8Array(length).fill(value)]

async function disk(
  volume: MirroredVolume,
  name: string,
  host: Awaited<ReturnType<MirroredVolume['host']>>,
  epoch = 1,
) {
  await volume.call('volume.create-disk', { volume: 'csv1', disk: name, name, sizeBytes: 16 * EXTENT })
  return CsvDisk.attach({ volume: host.volume, disk: name, vm: `vm-${name}`, epoch })
}

afterEach(() => canaries.clear())

describe('a leg that was away', () => {
  it('gets what a host wrote meanwhile, in extents old and new, whether it is marked still or not', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    for (let i = 0; i < 4; i += 1) await web.write(i * EXTENT, bytes(1), {}, IO)
    expect(await volume.differing()).toEqual([])

    await volume.enter(WITHOUT_B)
    await host.follow()
    await web.write(0, bytes(2), {}, IO)
    await web.write(9 * EXTENT + 8192, bytes(3), {}, IO)
    expect((await volume.differing()).length).toBeGreaterThan(0)
    // Long enough for the marks to be taken away: what they covered is written down.
    await volume.timers.advance(30_000)
    expect(host.volume.intent.size).toBe(0)
    await web.write(EXTENT, bytes(4), {}, IO)

    await volume.enter(B_SYNCING)
    await host.follow()
    await web.write(2 * EXTENT, bytes(5), {}, IO)
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
  })

  it('gets each region once, though it is marked still and written down as missed too', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await volume.enter(WITHOUT_B)
    await host.follow()
    for (let i = 0; i < 4; i += 1) await web.write(i * EXTENT, bytes(2), {}, IO)
    expect(host.volume.intent.size).toBe(4)

    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
    // Extents granted meanwhile are missed whole, not only where they were written.
    expect(volume.copies.length).toBeGreaterThan(4)
    expect(volume.copies).toHaveLength(new Set(volume.copies).size)
    // And tells how much that was, of how much.
    const copiedBytes = volume.copies.length * volume.layout.regionBytes
    expect(host.volume.resync.progress).toEqual({ generation: 3, copiedBytes })
    expect(volume.owner.sync).toMatchObject({ copiedBytes: 0, totalBytes: copiedBytes, sinceMs: 5_000 })
  })

  it('gets what the owner granted meanwhile, also where the host never heard of it', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    await disk(volume, 'web', host)
    // Old contents of leg b, which a grant's zeroing does not reach.
    const { layout, platters } = volume
    platters[1]!.write(layout.dataOffset, new Uint8Array(16 * EXTENT).fill(9))
    await volume.enter(WITHOUT_B)
    await host.follow()
    const holding = { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1, committed: false }
    await volume.call('volume.allocate', { ...holding, indexes: [5, 6], ahead: [] })
    expect((await volume.differing()).length).toBeGreaterThan(0)
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
  })

  it('lets nobody have meanwhile what is freed, and says that the volume is full when nothing else is left', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    for (let i = 0; i < 8; i += 1) await web.write(i * EXTENT, bytes(1), {}, IO)
    const { freeBytes } = await volume.call('volume.usage', { volume: 'csv1' })
    const rest = freeBytes / EXTENT
    await volume.call('volume.create-disk', { volume: 'csv1', disk: 'db', name: 'db', sizeBytes: rest * EXTENT })
    const db = await CsvDisk.attach({ volume: host.volume, disk: 'db', vm: 'vm-db', epoch: 1 })
    for (let i = 0; i < rest; i += 1) await db.write(i * EXTENT, bytes(2), {}, IO)
    await volume.enter(WITHOUT_B)
    await host.follow()
    await web.write(0, bytes(3), {}, IO)
    const copying = Promise.withResolvers<void>()
    volume.held.set('host-a', copying.promise)
    await volume.enter(B_SYNCING)
    await host.follow()
    await db.trim(0, EXTENT, {}, IO)
    await volume.timers.advance(1_000)
    let written = false
    const writing = web.write(12 * EXTENT, bytes(4), {}, IO).then(() => {
      written = true
    })
    await volume.timers.advance(2_000)
    expect(await volume.call('volume.usage', { volume: 'csv1' })).toMatchObject({ freeBytes: 0 })
    expect([written, web.critical]).toEqual([false, 'volume full'])
    copying.resolve()
    await volume.timers.advance(10_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    await volume.enter(AGAIN)
    await host.follow()
    await volume.timers.advance(5_000)
    await writing
    expect(web.critical).toBe(null)
  })

  it('gets what was written to a disk that nobody holds any more: the owner copies it', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await web.write(0, bytes(1), {}, IO)
    await volume.enter(WITHOUT_B)
    await host.follow()
    await web.write(0, bytes(2, 8192), {}, IO)
    await web.drain()
    await web.close()
    await volume.call('volume.detach', { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1 })
    await volume.enter(B_SYNCING)
    await host.follow()
    await volume.timers.advance(5_000)
    const { copiedBytes, totalBytes } = volume.owner.sync ?? {}
    expect([volume.owner.sync?.done, copiedBytes, copiedBytes]).toEqual([true, totalBytes, volume.layout.regionBytes])
    expect(await volume.differing()).toEqual([])
  })

  it('gets what a host had marked that died meanwhile, once its slot was recovered', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await volume.enter(WITHOUT_B)
    await host.follow()
    await web.write(3 * EXTENT, bytes(7), {}, IO)
    host.volume.drop('dead')
    host.mirror.abort('dead')
    await volume.call('volume.release-host', { volume: 'csv1', host: 'host-a', hostEpoch: 1 })
    await volume.enter(B_SYNCING)
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
  })

  it('that was never in sync gets everything', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await web.write(0, bytes(1), {}, IO)
    volume.platters[1]!.write(0, new Uint8Array(4 * 1024 * 1024).fill(0xee))
    await volume.enter(generation(2, ['in-sync', 'syncing'], [null, null]))
    await host.follow()
    await volume.timers.advance(5_000)
    const copiedBytes = host.volume.resync.progress?.copiedBytes
    expect([volume.owner.sync?.done, volume.owner.sync?.totalBytes, copiedBytes]).toEqual([true, EXTENT, EXTENT])
    expect(await volume.differing()).toEqual([])
    await volume.enter(generation(3, ['stale', 'in-sync'], [2, null]), 2)
    const { disks } = await volume.call('volume.list-disks', { volume: 'csv1' })
    expect(disks.map(each => each.disk)).toEqual(['web'])
  })

  it('is not called equal before every disk is', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await web.write(0, bytes(1), {}, IO)
    await volume.enter(WITHOUT_B)
    await host.follow()
    await web.write(0, bytes(2), {}, IO)
    await volume.enter(B_SYNCING)
    // The host has not come to this generation: it has copied nothing.
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: false })
    await host.follow()
    await volume.timers.advance(5_000)
    expect(volume.owner.sync).toMatchObject({ done: true })
  })

  it.each(['region-cleared-while-stale', 'marks-not-copied', 'grant-not-missed'])(
    'would lack something with %s planted',
    async name => {
      canaries.add(name)
      const volume = await MirroredVolume.make()
      const host = await volume.host()
      const web = await disk(volume, 'web', host)
      await web.write(0, bytes(1), {}, IO)
      await volume.enter(WITHOUT_B)
      // What is free holds old data there.
      const { layout, platters } = volume
      platters[1]!.write(layout.dataOffset + EXTENT, new Uint8Array(16 * EXTENT).fill(9))
      await host.follow()
      await web.write(0, bytes(2), {}, IO)
      await volume.timers.advance(30_000)
      await web.write(4096 * 8, bytes(3), {}, IO)
      await web.write(5 * EXTENT, bytes(4), {}, IO)
      await volume.enter(B_SYNCING)
      await host.follow()
      await volume.timers.advance(5_000)
      expect((await volume.differing()).length).toBeGreaterThan(0)
    },
  )
})

describe('a leg in sync', () => {
  it('is made equal where a host died in the middle of writes', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await web.write(0, bytes(1), {}, IO)
    // One leg has a write that the other has not: the host died between them.
    const { layout, platters } = volume
    platters[0]!.write(layout.dataOffset, new Uint8Array(4096).fill(8))
    expect((await volume.differing()).length).toBeGreaterThan(0)
    host.volume.drop('dead')
    host.mirror.abort('dead')
    await volume.call('volume.release-host', { volume: 'csv1', host: 'host-a', hostEpoch: 1 })
    expect(await volume.differing()).toEqual([])
  })

  it('is made equal where a migration’s target died in the middle of writes, before the owner had heard of the commit', async () => {
    const died = async () => {
      const volume = await MirroredVolume.make()
      const source = await volume.host('host-a')
      const target = await volume.host('host-b')
      const web = await disk(volume, 'web', source)
      await web.write(0, bytes(1), {}, IO)
      const of = { volume: 'csv1', disk: 'web', vm: 'vm-web', hostEpoch: 1 }
      await volume.call('volume.reserve', { ...of, host: 'host-b', epoch: 2 })
      await web.drain()
      const taken = { volume: target.volume, disk: 'web', vm: 'vm-web', epoch: 2, committed: true }
      const moved = await CsvDisk.adopt(taken, web.handover())
      await moved.write(8192, bytes(2), {}, IO)
      await web.close()
      target.volume.drop('dead')
      target.mirror.abort('dead')
      // Marked, and on one leg it has not landed.
      const [there, missing] = volume.platters
      let at = volume.layout.dataOffset
      while (there!.read(at, 1)[0] !== 2) at += 4096
      missing!.write(at, new Uint8Array(4096).fill(1))
      await volume.call('volume.release-host', { volume: 'csv1', host: 'host-b', hostEpoch: 1, ended: [] })
      return volume.differing()
    }
    expect(await died()).toEqual([])
    canaries.add('reserved-not-recovered')
    expect(await died()).not.toEqual([])
  })

  it('stays one through a generation in which nothing was written', async () => {
    const volume = await MirroredVolume.make()
    const host = await volume.host()
    const web = await disk(volume, 'web', host)
    await web.write(0, bytes(1), {}, IO)
    for (const next of [WITHOUT_B, B_SYNCING, AGAIN]) {
      await volume.enter(next)
      await host.follow()
      await volume.timers.advance(3_000)
    }
    await web.write(0, bytes(2), {}, IO)
    expect(await volume.differing()).toEqual([])
    expect(BOTH.number).toBe(1)
  })
})
