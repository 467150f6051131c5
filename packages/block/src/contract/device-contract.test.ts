// The contract, run against the devices of this package.

import type { BlockDevice, Limits } from '../device.ts'
import { MemoryDevice } from '../memory-device.ts'
import { connectNbd } from '../nbd/client.ts'
import { serveNbd } from '../nbd/server.ts'
import { type Cutter, ManualTimers, streamPair } from '../nbd/testing/stream-pair.ts'
import { openMultipath } from '../path/multipath.ts'
import type { PathTransport } from '../path/transport.ts'
import { type ContractSubject, describeBlockDevice } from './device-contract.ts'

const SIZE = 2 * 1024 * 1024
const timers = new ManualTimers()

async function overNbd(device: BlockDevice, structured: boolean, cut?: Cutter): Promise<ContractSubject> {
  const [near, far] = streamPair(cut, cut)
  const served = serveNbd(far, exportsOf(device), { timers })
  const client = await connectNbd(near, { exportName: 'disk', timers, structured })
  return { device: client, dispose: () => served.closed }
}

function exportsOf(device: BlockDevice) {
  return { list: async () => [], open: async () => ({ device, released: () => undefined }) }
}

const memory = (limits: Partial<Limits> = {}): MemoryDevice => new MemoryDevice({ size: SIZE, limits })

describeBlockDevice('memory', async () => ({ device: memory() }))
describeBlockDevice('memory with sectors and a small maximum', async () => ({
  device: memory({ minimum: 512, maximum: 256 * 1024 }),
}))
describeBlockDevice('NBD', () => overNbd(memory(), true))
describeBlockDevice('NBD with sectors and a small maximum', () =>
  overNbd(memory({ minimum: 4096, maximum: 256 * 1024 }), true),
)
describeBlockDevice('NBD with simple replies', () => overNbd(memory(), false))
describeBlockDevice('NBD in pieces of 1000 bytes', () => overNbd(memory(), true, () => 1000))
describeBlockDevice('NBD over NBD', async () => {
  const inner = await overNbd(memory(), true)
  return overNbd(inner.device, true)
})

describeBlockDevice('multipath over two NBD connections', async () => {
  const disk = memory()
  const path = (name: string): PathTransport => ({
    name,
    priority: 0,
    probe: async () => undefined,
    async connect(exportName) {
      const [near, far] = streamPair()
      serveNbd(far, exportsOf(disk), { timers })
      return connectNbd(near, { exportName, timers })
    },
  })
  let session = 1
  const device = await openMultipath({
    paths: [path('a'), path('b')],
    exportName: number => `disk?session=${number}`,
    session,
    raiseSession: () => {
      session += 1
      return session
    },
    clock: { now: () => timers.now, wall: () => 0 },
    timers,
  })
  return { device }
})
