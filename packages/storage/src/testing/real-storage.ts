// For tests: a storage subsystem on the real environment, in this process and a directory of its own, with an open LUN
// `open`, a closed one `csv1` and host `a` admitted at epoch 1.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { type StorageServer, startStorage } from '../server.ts'

export interface RealStorage {
  readonly env: NodeEnvironment
  readonly server: StorageServer
  readonly directory: string
  /** The unix socket's path, and the TCP port on loopback. */
  readonly socket: string
  readonly port: number
  dispose(): Promise<void>
}

export async function realStorage(sizeBytes: number): Promise<RealStorage> {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-storage-'))
  const env = createEnvironment({ name: 'san', directory, logLevel: 'error' })
  const socket = join(directory, 'nbd.sock')
  const server = await startStorage(env, {
    name: 'san',
    cluster: 'test',
    credential: 'test',
    portals: [
      { network: 'local', host: socket, port: 0 },
      { network: 'fabric-0', host: '127.0.0.1', port: 0 },
    ],
    control: [{ network: 'cluster', host: '127.0.0.1', port: 0 }],
  })
  await server.order('storage.create-lun', { lun: 'open', sizeBytes, open: true })
  await server.order('storage.create-lun', { lun: 'csv1', sizeBytes })
  await server.order('storage.admit', { host: 'a', epoch: 1, term: 1 })
  return {
    env,
    server,
    directory,
    socket,
    port: server.portals[1]?.port ?? 0,
    async dispose() {
      await server.close()
      await env.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
