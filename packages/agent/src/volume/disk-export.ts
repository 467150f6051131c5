// Serves one block device as an NBD export to tools on this machine: what `disk export` and the bench use. Who may ask for
// it is the address's business (loopback or a unix socket); the device stays its opener's.

import { type BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import { type NbdConnection, type NbdExports, NbdRefusal, serveNbd } from '@stellwerk/block/nbd/server.ts'
import type { Address, ByteStream, Environment, Listener } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** Tools open one or a few; one more is dropped unanswered. */
export const MAX_EXPORT_CONNECTIONS = 64

export interface DiskExportOptions {
  readonly address: Address
  /** What clients ask for; the empty name, NBD's default export, gives it too. */
  readonly name: string
  readonly description?: string
  readonly device: BlockDevice
  /** Writes are refused with EPERM. */
  readonly readOnly?: boolean
}

export interface DiskExport {
  /** With the port that was really taken. */
  readonly address: Address
  readonly connections: number
  /** Takes nothing new, waits for the requests in flight, ends all connections. */
  close(reason?: string): Promise<void>
}

/** What tools take for the path of a unix socket (unix(7)). */
const CLIENT_PATH_MAX_BYTES = 107

/** Throws `bad-address` when no tool could name it. */
export function checkNameable({ network, host }: Address): void {
  if (network !== 'local' || Buffer.byteLength(host) <= CLIENT_PATH_MAX_BYTES) return
  throw new StellwerkError('bad-address', `a socket's path has at most ${CLIENT_PATH_MAX_BYTES} bytes`, {
    where: host,
    hint: 'use a shorter directory',
  })
}

/** Rejects with `address-in-use` when the address is taken. */
export async function exportDisk(
  env: Pick<Environment, 'network' | 'timers'>,
  options: DiskExportOptions,
): Promise<DiskExport> {
  const connections = new Set<NbdConnection>()
  const exports = exportsOf(options)
  let closing = false
  const listener: Listener = await env.network.listenStream(options.address, (stream: ByteStream) => {
    if (closing || connections.size >= MAX_EXPORT_CONNECTIONS) {
      stream.destroy()
      return
    }
    const connection = serveNbd(stream, exports, { timers: env.timers })
    connections.add(connection)
    void connection.closed.then(() => connections.delete(connection))
  })
  return {
    address: listener.address,
    get connections() {
      return connections.size
    },
    async close(reason = 'the export is closed') {
      closing = true
      await Promise.all([...connections].map(connection => connection.shutdown(reason)))
      await listener.close()
    },
  }
}

function exportsOf({ name, description, device, readOnly }: DiskExportOptions): NbdExports {
  const shown = description === undefined ? {} : { description }
  const served = readOnly === true ? readOnlyView(device) : device
  return {
    list: async () => [{ name, ...shown }],
    open: async wanted => {
      if (wanted !== name && wanted !== '') {
        throw new NbdRefusal('unknown', `unknown-export there is no disk '${wanted}' here, only '${name}'`)
      }
      return { device: served, ...shown, released: () => undefined }
    },
  }
}

/** The server refuses what changes a device whose caps say that it is read-only; this one refuses it too. */
function readOnlyView(device: BlockDevice): BlockDevice {
  const refuse = (): Promise<never> => Promise.reject(new BlockError('EPERM', 'none', 'the export is read-only'))
  const { blockStatus } = device
  return {
    get size() {
      return device.size
    },
    limits: device.limits,
    caps: { ...device.caps, readOnly: true },
    read: (offset, length, io) => device.read(offset, length, io),
    write: refuse,
    flush: io => device.flush(io),
    zero: refuse,
    trim: refuse,
    ...(blockStatus === undefined
      ? {}
      : { blockStatus: (offset, length, io) => blockStatus.call(device, offset, length, io) }),
    onState: listener => device.onState(listener),
    close: () => device.close(),
  }
}
