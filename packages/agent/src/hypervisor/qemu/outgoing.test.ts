// The switch of an outgoing migration, with a QEMU that the test plays and the real disk between it and the guest.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { createCompute } from '@stellwerk/runtime/node/compute.ts'
import { expect, it } from 'vitest'
import { createRealEnvironment } from '../testing/real-environment.ts'
import { GuestDisk } from './guest-disk.ts'
import { QemuOutgoing } from './outgoing.ts'

type Machine = ConstructorParameters<typeof QemuOutgoing>[1]

const IO: Io = { origin: 'test', deadlineAt: null }
const settle = () => new Promise(resolve => setImmediate(() => setImmediate(resolve)))

/** QEMU as far as a migration needs it: it says what happens when it is told to go on. */
const NONE = new Uint8Array(0)
const HANDOVER = { life: 'x', at: 0, recent: NONE, unheard: NONE, shown: 0 }

function played(disk: GuestDisk, statistics: () => object = () => ({ ram: {} })) {
  let tell: Parameters<Machine['onQemuEvent']>[0] = () => undefined
  const event = (name: string, data: object) => tell({ event: name, data } as Parameters<typeof tell>[0])
  const nothing = (): void => undefined
  const stream = {
    onData: nothing,
    onEnd: nothing,
    onClose: nothing,
    resume: nothing,
    pause: nothing,
    destroy: nothing,
  }
  const machine = {
    life: { vm: 'web', dead: false, released: false, release: () => undefined, unrelease: () => undefined },
    qemu: { sockets: { expect: async () => ({ connected: Promise.resolve(stream), close: async () => undefined }) } },
    qmp: {
      execute: async (what: string) => {
        if (what === 'migrate-continue') event('MIGRATION', { status: 'completed' })
        if (what === 'migrate_cancel') event('MIGRATION', { status: 'cancelled' })
        return what === 'query-migrate' ? statistics() : {}
      },
    },
    onQemuEvent: (listener: typeof tell) => {
      tell = listener
      return () => undefined
    },
    holdDisks: () => disk.hold(),
    insist: (_on: string, done: Promise<unknown>) => done,
    console: { read: Promise.resolve(), hold: nothing, handover: HANDOVER },
    wanted: () => undefined,
    settled: async () => undefined,
    drained: () => disk.settled(),
  } as unknown as Machine
  return { machine, event }
}

it('an abort that comes before the guest’s last request is done leaves nothing to hold the guest still afterwards (MIG2)', async () => {
  const landing: (() => void)[] = []
  const memory = new MemoryDevice({ size: 1 << 20 })
  const hung = new Promise<void>(resolve => landing.push(resolve))
  const beneath: BlockDevice = Object.assign(Object.create(memory) as BlockDevice, { write: () => hung })
  const disk = new GuestDisk(beneath, () => true)
  disk.admit()
  const { machine, event } = played(disk)
  const policy = { downtimeMs: 100, maxRounds: 30, whenDiverging: 'pause' } as const
  const outgoing = new QemuOutgoing(createRealEnvironment(createCompute()), machine, policy, () => undefined)
  await settle()
  const write = disk.write(0, [new Uint8Array(512)], {}, IO).catch(() => 'refused')
  let trailers = 0
  const released = outgoing
    .release(async () => {
      trailers += 1
      return {}
    })
    .catch((error: { code: string }) => error.code)
  await settle()
  // The lease is over: QEMU is answered with an error and comes to its switch, while the request still hangs beneath.
  disk.hold()
  expect(await write).toBe('refused')
  event('STOP', {})
  event('MIGRATION', { status: 'pre-switchover' })
  await settle()
  await outgoing.abort(() => undefined)
  expect(await released).toBe('aborted')
  for (const land of landing) land()
  await settle()
  expect(trailers).toBe(0)
})

it.each([
  { throttle: 0, rounds: 12 },
  { throttle: 20, rounds: 6 },
])('a guest that never comes near a short pause is given up, throttled or not: %o', async ({ throttle, rounds }) => {
  const disk = new GuestDisk(new MemoryDevice({ size: 1 << 20 }), () => true)
  let round = 0
  // A quarter of what is sent a second, and always 40 ms of it left.
  const { machine, event } = played(disk, () => ({
    ram: { total: 1 << 29, remaining: 4_000_000, mbps: 800, 'dirty-pages-rate': 6_000, 'dirty-sync-count': round },
    'cpu-throttle-percentage': throttle,
  }))
  const policy = { downtimeMs: 5, maxRounds: 3, whenDiverging: 'abort' } as const
  const outgoing = new QemuOutgoing(createRealEnvironment(createCompute()), machine, policy, () => undefined)
  let end: string | null = null
  outgoing.converged.then(
    () => (end = 'converged'),
    (error: { code: string }) => (end = error.code),
  )
  await settle()
  for (round = 1; round <= rounds; round += 1) {
    event('MIGRATION_PASS', {})
    await settle()
    expect(end).toBeNull()
  }
  event('MIGRATION_PASS', {})
  await settle()
  expect(end).toBe('not-converging')
  await outgoing.abort()
})
