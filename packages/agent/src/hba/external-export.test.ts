// An export is looked at before it is a leg: what it lacks, or carries, is said in a line.

import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { serveNbd } from '@stellwerk/block/nbd/server.ts'
import { ManualTimers, streamPair } from '@stellwerk/block/nbd/testing/stream-pair.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import { SMALL } from '@stellwerk/csv/testing/fixture.ts'
import type { Network } from '@stellwerk/runtime/environment.ts'
import { expect, it } from 'vitest'
import { checkExport } from './external-export.ts'

const SIZE = 8 * 1024 * 1024
const PORTAL = { network: 'fabric-0', host: 'nas', port: 10_809 } as const

/** What a host says of an export that is this device, wanted as another leg beside `legs`. */
async function look(device: MemoryDevice, legs: readonly string[], volumeId = SMALL.volumeId): Promise<unknown> {
  const timers = new ManualTimers()
  const dialStream = async () => {
    const [near, far] = streamPair()
    const open = async () => ({ device, description: '', released: () => undefined })
    serveNbd(far, { list: async () => [], open }, { timers })
    return near
  }
  const env = { timers, network: { dialStream } as unknown as Network }
  const storages = [{ name: 'nas', portals: [PORTAL], external: { exports: [] } }]
  const options = { env, hbas: ['fabric-0' as const], storages: storages as never, timeoutMs: 1_000 }
  const wanted = { storage: 'nas', lun: 'csv1', sizeBytes: SIZE, volumeId, legs: [...legs] }
  return checkExport(options, wanted).catch((error: Error) => error.message)
}

async function formatted(): Promise<MemoryDevice> {
  const device = new MemoryDevice({ size: SIZE })
  await formatVolume({ ...SMALL, legs: [{ id: 'leg-0', device }] })
  return device
}

it('a blank one can be a leg', async () => {
  expect(await look(new MemoryDevice({ size: SIZE }), ['leg-0'])).toEqual({ sizeBytes: SIZE })
})

it('one that is a leg of the volume by another name is refused; a former leg of it is taken', async () => {
  const device = await formatted()
  expect(await look(device, ['leg-0'])).toMatch(
    /export "csv1" of storage "nas" can't be used: it is leg-0 of this volume/,
  )
  expect(await look(device, ['leg-1'])).toEqual({ sizeBytes: SIZE })
})

it('one that carries another volume is refused', async () => {
  expect(await look(await formatted(), [], 'another')).toMatch(/it carries a volume already/)
})
