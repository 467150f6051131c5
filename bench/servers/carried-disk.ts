// One host's path to a LUN as a disk that fio can use: over its own HBA, or redirected over a peer.

import { exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import '@stellwerk/protocol/messages/all.ts'
import { redirectedPath } from '@stellwerk/agent/redirect/redirected-path.ts'
import { openMultipath } from '@stellwerk/block/path/multipath.ts'
import { nbdPath } from '@stellwerk/block/path/nbd-path.ts'
import type { PathTransport } from '@stellwerk/block/path/transport.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { BENCH_HOST, benchIdentity, config, endWithParent, serverEnvironment } from './config.ts'
import { PEER } from './peer.ts'

export interface CarriedDiskConfig {
  readonly name: string
  readonly directory: string
  readonly socket: string
  readonly portalSocket: string
  /** The peer's; null: direct. */
  readonly peerPort: number | null
}

export const exportName = (session: number): string =>
  `lun?host=${BENCH_HOST}&epoch=1&session=1.${session}&generation=0`

export function overPeer(env: Environment, port: number): PathTransport {
  return redirectedPath({
    env,
    identity: benchIdentity(BENCH_HOST),
    storage: 'san',
    peers: () => [{ name: PEER, address: { network: 'cluster', host: '127.0.0.1', port } }],
    onFailed: () => undefined,
    probe: async () => undefined,
    timeoutMs: 1_000,
    epochOf: () => 0,
  })
}

if (import.meta.main) {
  const options = config<CarriedDiskConfig>()
  const env = serverEnvironment(options.name, options.directory)
  const { network, timers, clock } = env
  const direct = (): PathTransport =>
    nbdPath({
      ...{ name: 'hba/san', priority: 0, network, timers },
      address: { network: 'local', host: options.portalSocket, port: 0 },
      probe: async () => undefined,
    })
  let session = 1
  const device = await openMultipath({
    paths: [options.peerPort === null ? direct() : overPeer(env, options.peerPort)],
    exportName,
    session,
    raiseSession: () => ++session,
    clock,
    timers,
  })
  await exportDisk(env, { address: { network: 'local', host: options.socket, port: 0 }, name: 'disk', device })
  endWithParent()
}
