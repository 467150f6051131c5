// The embedded storage subsystem as a process of its own: a LUN for the volume, another for paths without one. Its parent
// orders what a coordinator would.

import type { StorageKind } from '@stellwerk/storage/control.ts'
import { startStorage } from '@stellwerk/storage/server.ts'
import { BENCH_CLUSTER, BENCH_HOST, BENCH_TOKEN, config, endWithParent, serverEnvironment } from './config.ts'
import { takeOrders } from './orders.ts'

export interface StorageServerConfig {
  /** `san` unless there are several. */
  readonly name?: string
  readonly directory: string
  readonly socket: string
  readonly controlSocket: string
  /** Names and sizes; `open`: for tools too. */
  readonly luns: readonly { readonly lun: string; readonly sizeBytes: number; readonly open: boolean }[]
}

const { name = 'san', directory, socket, controlSocket, luns } = config<StorageServerConfig>()
const env = serverEnvironment(name, directory, { durable: true })
const setUp = await startStorage(env, {
  name,
  cluster: BENCH_CLUSTER,
  credential: BENCH_TOKEN,
  portals: [],
  control: [],
})
await setUp.order('storage.admit', { host: BENCH_HOST, epoch: 1, term: 1 })
for (const lun of luns) await setUp.order('storage.create-lun', lun)
await setUp.close()
// Its socket says that it is ready, so it listens only now.
const storage = await startStorage(env, {
  name,
  cluster: BENCH_CLUSTER,
  credential: BENCH_TOKEN,
  portals: [{ network: 'local', host: socket, port: 0 }],
  control: [{ network: 'local', host: controlSocket, port: 0 }],
})
takeOrders({ storage: ({ kind, body }: { kind: StorageKind; body: never }) => storage.order(kind, body) })
endWithParent()
