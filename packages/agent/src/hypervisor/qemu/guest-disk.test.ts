// A disk whose requests can be answered by an error at any moment, though the storage below still works on them.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import { beforeEach, expect, test } from 'vitest'
import { MemoryDisk } from '../testing/memory-disk.ts'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { GuestDisk } from './guest-disk.ts'

const IO = { origin: 'test', deadlineAt: null }
const SECTOR = Buffer.alloc(512, 1)

let below: MemoryDisk
let disk: GuestDisk
let world: ReturnType<typeof createVirtualEnvironment>
let allowed: boolean

beforeEach(() => {
  world = createVirtualEnvironment(1)
  below = new MemoryDisk(world.env.timers, 1 << 20)
  allowed = true
  disk = new GuestDisk(below, () => allowed)
})

const write = (offset = 0, data = SECTOR) => disk.write(offset, [data], {}, IO)
const outcome = (promise: Promise<unknown>) => promise.then(() => 'done', errorCode)
const pass = () => world.until(() => false, 10)

test('nothing passes before it is admitted, nor without a right', async () => {
  expect(await outcome(write())).toBe('EIO')
  disk.admit()
  allowed = false
  expect(await outcome(write())).toBe('EIO')
  expect(below.taken.write).toBe(0)
})

test('an answer that comes when the right is gone is an error', async () => {
  disk.admit()
  const written = outcome(write())
  allowed = false
  await pass()
  expect(await written).toBe('EIO')
  expect(below.bytes[0]).toBe(1)
})

test('held, what waits for the storage is answered by an error at once, and is waited for by whoever wants it settled', async () => {
  disk.admit()
  below.hold()
  const written = outcome(write())
  disk.hold()
  expect(await written).toBe('EIO')
  let settled = false
  void disk.settled().then(() => {
    settled = true
  })
  await pass()
  expect([settled, below.inFlight]).toEqual([false, 1])
  below.go()
  await pass()
  expect([settled, below.inFlight]).toEqual([true, 0])
})

test('asked again, a request waits for what was asked before, and lands behind it', async () => {
  disk.admit()
  below.hold()
  void outcome(write(0, Buffer.alloc(512, 1)))
  disk.hold()
  disk.admit()
  const again = outcome(write(0, Buffer.alloc(512, 2)))
  await pass()
  expect(below.taken.write).toBe(1)
  below.go()
  await pass()
  expect(await again).toBe('done')
  expect(below.bytes[0]).toBe(2)
})

test('held while it waits for what was asked before, a request fails too', async () => {
  disk.admit()
  below.hold()
  void outcome(write())
  disk.hold()
  disk.admit()
  const again = outcome(write())
  await Promise.resolve()
  disk.hold()
  expect(await again).toBe('EIO')
  below.go()
  await pass()
  expect(below.taken.write).toBe(1)
})

test('refused is for good', async () => {
  disk.admit()
  disk.refuse()
  disk.admit()
  expect(await outcome(write())).toBe('ESHUTDOWN')
})
