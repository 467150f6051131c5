// For tests of the server: one connection to it, over a stream in memory, to an export under the test's hand.

import type { BlockDevice, Caps, Limits } from '../../device.ts'
import { MemoryDevice } from '../../memory-device.ts'
import { type NbdExports, NbdRefusal, type ServeNbdOptions, serveNbd } from '../server.ts'
import { RawClient } from './raw-client.ts'
import { ManualTimers, streamPair } from './stream-pair.ts'

export const SIZE = 1024 * 1024

export interface Setup {
  readonly device?: BlockDevice
  readonly exports?: Partial<NbdExports>
  readonly options?: Partial<ServeNbdOptions>
}

export function setUp({ device = new MemoryDevice({ size: SIZE }), exports = {}, options = {} }: Setup = {}) {
  const timers = new ManualTimers()
  const [near, far] = streamPair()
  const log: string[] = []
  const connection = serveNbd(
    far,
    {
      list: async () => [{ name: 'disk', description: 'a disk' }, { name: 'other' }],
      open: async (name, peer, purpose) => {
        log.push(`open ${name} ${purpose} ${peer}`)
        if (name !== 'disk') throw new NbdRefusal('unknown', `no export ${name}`)
        return { device, description: 'a disk', released: () => log.push('released') }
      },
      ...exports,
    },
    { timers, ...options },
  )
  return { client: new RawClient(near), connection, timers, near, far, log, device }
}

export const memory = (limits: Partial<Limits>, caps: Partial<Caps> = {}) =>
  new MemoryDevice({ size: SIZE, limits, caps })

/** A device whose requests end when the test says. */
export function gated(): { device: BlockDevice; waiting: { finish(): void; fail(error: Error): void }[] } {
  const inner = new MemoryDevice({ size: SIZE })
  const waiting: { finish(): void; fail(error: Error): void }[] = []
  const gate = (): Promise<void> => {
    return new Promise((finish, fail) => {
      waiting.push({ finish, fail })
    })
  }
  const device = Object.create(inner, {
    size: { value: SIZE },
    limits: { value: inner.limits },
    caps: { value: inner.caps },
    read: { value: async (o: number, l: number, io: never) => gate().then(() => inner.read(o, l, io)) },
    write: {
      value: async (o: number, d: Uint8Array[], f: never, io: never) => gate().then(() => inner.write(o, d, f, io)),
    },
    flush: { value: async () => gate() },
    blockStatus: { value: undefined },
  }) as BlockDevice
  return { device, waiting }
}
