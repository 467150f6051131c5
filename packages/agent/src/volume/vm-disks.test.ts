import { EXTENT, openOwner, REGION, smallVolume } from '@stellwerk/csv/testing/fixture.ts'
import { callTo, openDisk, openHost } from '@stellwerk/csv/testing/host-fixture.ts'
import { MirroredVolume } from '@stellwerk/csv/testing/mirror-fixture.ts'
import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { Environment, Json } from '@stellwerk/runtime/environment.ts'
import { expect, it } from 'vitest'
import { VmDisks } from './vm-disks.ts'

const IO = { origin: 'test', deadlineAt: null }

/** A disk with one extent, drained at its source, and reserved for host-b. */
async function reserved() {
  const { platter } = await smallVolume()
  const { owner } = await openOwner(platter, 1)
  const call = callTo(() => owner)
  const source = await openDisk(await openHost(platter, call), call)
  await source.write(0, [new Uint8Array(4096).fill(1)], {}, IO)
  const { volume, timers } = await openHost(platter, call, { host: 'host-b' })
  const order = { vm: 'web-1', host: 'host-b', hostEpoch: 1, epoch: 2 } as VmOrder
  const env = { timers } as unknown as Environment
  const disks = await VmDisks.reserve(env, order, [{ volume, disk: 'disk-1', owner: call }], () => ['san-a'])
  await source.drain()
  const handover = JSON.parse(JSON.stringify(source.handover())) as { [key: string]: Json }
  return { disks, handover }
}

it('disks are taken over as their source hands them over', async () => {
  const { disks, handover } = await reserved()
  await disks.adopt([handover])
  const [device] = disks.devices
  expect((await device!.read(0, 4096, IO))[0]?.[0]).toBe(1)
})

it('a handover of other disks, or of older ones than were reserved, is refused', async () => {
  const { disks, handover } = await reserved()
  const wrong: { [key: string]: Json }[] = [
    { disk: 'disk-2' },
    { volumeId: 'another' },
    { sizeBytes: 4096 },
    { mapVersion: (handover['mapVersion'] as number) - 1 },
  ]
  for (const change of wrong) {
    await expect(disks.adopt([{ ...handover, ...change }])).rejects.toMatchObject({ code: 'bad-handover' })
  }
  for (const count of [[], [handover, handover]]) {
    await expect(disks.adopt(count)).rejects.toMatchObject({ code: 'bad-handover' })
  }
  await disks.adopt([handover])
})

it('of several disks those that were attached are given back when another can’t be: their VM has none of them', async () => {
  const { platter } = await smallVolume()
  const { owner } = await openOwner(platter, 1)
  const call = callTo(() => owner)
  const { volume, timers } = await openHost(platter, call)
  const order = { vm: 'web-1', host: 'host-a', hostEpoch: 1, epoch: 1 } as VmOrder
  await call('volume.create-disk', { volume: 'csv1', disk: 'disk-1', name: 'disk-1', sizeBytes: 8 * EXTENT })
  const places = ['disk-1', 'none'].map(disk => ({ volume, disk, owner: call }))
  const log = { info: () => undefined }
  const attaching = VmDisks.attach({ timers, log } as unknown as Environment, order, places, () => ['san-a'])
  await expect(attaching).rejects.toMatchObject({ code: 'disk-missing' })
  expect((await call('volume.list-disks', { volume: 'csv1' })).disks[0]?.holder).toBeNull()
})

it('a disk is given back only when nothing of it is marked here: else it would be made equal over what its next host writes', async () => {
  const mirrored = await MirroredVolume.make()
  const { volume } = await mirrored.host()
  const { call, timers } = mirrored
  const order = { vm: 'web-1', host: 'host-a', hostEpoch: 1, epoch: 1 } as VmOrder
  await call('volume.create-disk', { volume: 'csv1', disk: 'disk-1', name: 'disk-1', sizeBytes: 8 * EXTENT })
  const places = [{ volume, disk: 'disk-1', owner: call }]
  const disks = await VmDisks.attach({ timers } as unknown as Environment, order, places, () => ['san-a'])
  await disks.devices[0]!.write(0, [new Uint8Array(4096).fill(1)], {}, IO)

  // A write of unknown outcome, where neither leg can be read: the legs cannot be made equal there.
  const covers = volume.disks.get('disk-1')!.covers()
  const region = Array.from({ length: volume.view.regionCount }, (_, i) => i).find(covers)!
  const [bit] = await volume.intent.mark([region])
  volume.intent.release(bit!, true)
  for (const latent of mirrored.latent) latent.add((region * REGION) / 4096)
  const holder = async () => (await call('volume.list-disks', { volume: 'csv1' })).disks[0]?.holder
  const detached = disks.detach()
  await timers.advance(2_000)
  expect(await holder()).toMatchObject({ host: 'host-a' })
  for (const latent of mirrored.latent) latent.clear()
  await timers.advance(2_000)
  await detached
  expect(await holder()).toBeNull()
  expect(volume.intent.size).toBe(0)
})
