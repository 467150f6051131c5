// MIR1: what a host copies to a leg that catches up overwrites nothing of another host's, though the extent was the first one's when the
// owner made its plan, and though owners change meanwhile. What is planted is found.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { CsvDisk } from '../disk/csv-disk.ts'
import { EXTENT, IO } from '../testing/fixture.ts'
import { generation, MirroredVolume } from '../testing/mirror-fixture.ts'

const B_EMPTY = generation(3, ['in-sync', 'syncing'], [null, null])
const bytes = (value: number, length = EXTENT): Uint8Array[] => [new Uint8Array(length).fill(value)]

type Host = Awaited<ReturnType<MirroredVolume['host']>>

const attach = (host: Host, name: string) =>
  CsvDisk.attach({ volume: host.volume, disk: name, vm: `vm-${name}`, epoch: 1 })
const create = (volume: MirroredVolume, name: string, extents = 1) =>
  volume.call('volume.create-disk', { volume: 'csv1', disk: name, name, sizeBytes: extents * EXTENT })

async function two() {
  const volume = await MirroredVolume.make()
  const [a, b] = [await volume.host('host-a'), await volume.host('host-b')]
  const hold = () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    volume.held.set('host-a', promise)
    return resolve
  }
  /** Leg b is new; what host-a copies there is on its way until it is let go. */
  const begin = async () => {
    const letGo = hold()
    await volume.enter(B_EMPTY)
    await a.follow()
    await b.follow()
    await volume.timers.advance(100)
    return letGo
  }
  const end = async (letGo: () => void) => {
    volume.held.delete('host-a')
    letGo()
    await volume.timers.advance(30_000)
  }
  return { volume, a, b, hold, begin, end }
}

afterEach(() => canaries.clear())

/** A guest trims what was to be copied next; the owner changes; another host's guest gets what is free, and writes there. */
async function trimmed() {
  const { volume, a, b, hold, begin, end } = await two()
  await create(volume, 'web', 2)
  await create(volume, 'mail', 12)
  const web = await attach(a, 'web')
  const mail = await attach(b, 'mail')
  await web.write(0, bytes(1, 2 * EXTENT), {}, IO)
  const first = await begin()
  await web.trim(EXTENT, EXTENT, {}, IO)
  await volume.timers.advance(1_000)
  // The same generation, and another owner.
  await volume.enter(B_EMPTY, 2)
  const written: Promise<void>[] = []
  for (let index = 0; index < 12; index += 1) written.push(mail.write(index * EXTENT, bytes(2, 4096), {}, IO))
  await volume.timers.advance(3_000)
  await Promise.all(written)
  // On with the plan of before: read, and on its way.
  const second = hold()
  first()
  await volume.timers.advance(100)
  for (let index = 0; index < 12; index += 1) await mail.write(index * EXTENT, bytes(3), {}, IO)
  await end(second)
  return volume
}

/** The disk `web`, in whose only extent host-a has written, and which nobody has now. */
async function written(volume: MirroredVolume, a: Host): Promise<void> {
  await create(volume, 'web')
  const web = await attach(a, 'web')
  await web.write(0, bytes(1), {}, IO)
  await web.drain()
  await web.close()
  await volume.call('volume.detach', { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1 })
}

/** The disk `web`, and a clone of it at the other host: nobody else has the extent that both have. */
async function shared(volume: MirroredVolume, a: Host, b: Host) {
  await volume.call('volume.snapshot-disk', { volume: 'csv1', disk: 'web', snapshot: 'snap', name: 'snap' })
  await volume.call('volume.clone-disk', { volume: 'csv1', snapshot: 'snap', disk: 'copy', name: 'copy' })
  await volume.call('volume.delete-disk', { volume: 'csv1', disk: 'snap' })
  const web = await CsvDisk.attach({ volume: a.volume, disk: 'web', vm: 'vm-web', epoch: 2 })
  return { web, copy: await attach(b, 'copy') }
}

/** A guest writes to an extent that it shares, and that is being copied for it; then the other sharer has it for itself. */
async function unshared() {
  const { volume, a, b, begin, end } = await two()
  await written(volume, a)
  const { web, copy } = await shared(volume, a, b)
  const letGo = await begin()
  const left = web.write(0, bytes(2), {}, IO)
  await volume.timers.advance(1_000)
  const inPlace = copy.write(0, bytes(3), {}, IO)
  await volume.timers.advance(3_000)
  await end(letGo)
  await Promise.all([left, inPlace])
  return volume
}

describe.each([
  ['an extent that was given back and is another’s', trimmed],
  ['a shared extent that its last sharer writes in place', unshared],
])('%s', (_, scenario) => {
  it('is not overwritten by who copied it before', async () => {
    const volume = await scenario()
    expect(volume.owner.sync).toMatchObject({ done: true })
    expect(await volume.differing()).toEqual([])
  })

  it('would be, were what has left a disk still copied', async () => {
    canaries.add('departed-extent-copied')
    const volume = await scenario()
    expect(await volume.differing()).not.toEqual([])
  })
})

it('what could not leave for want of room is copied all the same: the leg need not wait for somebody to make some', async () => {
  const { volume, a, b, begin, end } = await two()
  await create(volume, 'big', 128)
  await written(volume, a)
  await volume.call('volume.snapshot-disk', { volume: 'csv1', disk: 'web', snapshot: 'snap', name: 'snap' })
  const big = await attach(b, 'big')
  let isFull = false
  for (let index = 0; index < 128 && !isFull; index += 1) {
    const write = big.write(index * EXTENT, bytes(4), {}, IO)
    write.catch(() => undefined)
    await volume.timers.advance(1_000)
    isFull = big.critical !== null
  }
  expect(isFull).toBe(true)
  const again = await CsvDisk.attach({ volume: a.volume, disk: 'web', vm: 'vm-web', epoch: 2 })
  const waiting = again.write(0, bytes(2), {}, IO)
  waiting.catch(() => undefined)
  await volume.timers.advance(5_000)
  expect(again.critical).not.toBeNull()
  await end(await begin())
  expect(volume.owner.sync).toMatchObject({ done: true })
  expect(await volume.differing()).toEqual([])
  again.abandon()
  big.abandon()
})

it('what may have left by a question that has no answer yet is not copied, and not called copied; other disks are', async () => {
  const { volume, a, b, hold, begin, end } = await two()
  await create(volume, 'mail')
  await written(volume, a)
  await volume.call('volume.snapshot-disk', { volume: 'csv1', disk: 'web', snapshot: 'snap', name: 'snap' })
  const shared = await CsvDisk.attach({ volume: a.volume, disk: 'web', vm: 'vm-web', epoch: 2 })
  // Nobody else has it any more, which its host does not know.
  await volume.call('volume.delete-disk', { volume: 'csv1', disk: 'snap' })
  const mail = await attach(a, 'mail')
  await mail.write(0, bytes(2), {}, IO)
  // What leg b had before.
  volume.platters[1]!.write(volume.layout.dataOffset, new Uint8Array(16 * EXTENT).fill(9))
  // The link to the owner fails in the middle of the question: it may be obeyed, or not.
  volume.failing = 'volume.unshare'
  const waiting = shared.write(0, bytes(3), {}, IO)
  waiting.catch(() => undefined)
  await volume.timers.advance(1_000)
  await end(await begin())
  hold()()
  expect(volume.owner.sync).toMatchObject({ done: false })
  expect(a.volume.resync.progress?.why).toMatch(/^web: the owner has not said yet whether 4 regions/)
  const webs = await volume.differing()
  expect(new Set(webs.map(at => Math.floor((at - volume.layout.dataOffset) / EXTENT))).size).toBe(1)
  // Its guest is being ended: that it waits no more is no answer.
  shared.abandon()
  await expect(waiting).rejects.toThrow()
  await volume.timers.advance(5_000)
  expect(await volume.differing()).toEqual(webs)
  volume.failing = null
  await shared.close()
  await volume.call('volume.detach', { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 2 })
  await volume.timers.advance(10_000)
  expect(volume.owner.sync).toMatchObject({ done: true })
  expect(await volume.differing()).toEqual([])
  expect(b.volume.dropped).toBe(null)
})

/** What a guest reads of an extent that it has left, as far as its owner knows, and that the other sharer has written to since. */
async function readAfterLeaving() {
  const { volume, a, b } = await two()
  await written(volume, a)
  const { web, copy } = await shared(volume, a, b)
  volume.unanswered = 'volume.unshare'
  const write = web.write(0, bytes(2, 4096), {}, IO)
  await volume.timers.advance(20)
  volume.unanswered = null
  await copy.write(0, bytes(3), {}, IO)
  const reads = [web.read(8192, 4096, IO), web.read(0, EXTENT, IO)]
  await volume.timers.advance(10_000)
  await write
  const read = (await Promise.all(reads)).map(parts => new Set(Buffer.concat(parts)))
  return [...new Set(read.flatMap(values => [...values]))].sort()
}

it('IO1: an extent that a guest may have left already is not read: it may hold another’s data', async () => {
  expect(await readAfterLeaving()).toEqual([1, 2])
  canaries.add('departing-extent-read')
  expect(await readAfterLeaving()).toContain(3)
})

it('reads wait for no owner that is away, nor for room: between two questions nothing can have left', async () => {
  const { volume, a, b } = await two()
  await written(volume, a)
  const { web } = await shared(volume, a, b)
  volume.failing = 'volume.unshare'
  volume.failure = 'owner-away'
  const write = web.write(0, bytes(2, 4096), {}, IO)
  write.catch(() => undefined)
  await volume.timers.advance(1_000)
  const read = web.read(8192, 4096, IO)
  await volume.timers.advance(0)
  expect(Buffer.concat(await read)[0]).toBe(1)
  web.abandon()
  await expect(write).rejects.toThrow()
})
