// A peer that carries another host's requests, as an agent does: redirect sessions in, its own portal behind.

import { renameSync, writeFileSync } from 'node:fs'
import { RedirectServer } from '@stellwerk/agent/redirect/redirect-server.ts'
import { listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import '@stellwerk/protocol/messages/all.ts'
import { benchIdentity, config, endWithParent, serverEnvironment } from './config.ts'

export const PEER = 'b'

export interface PeerConfig {
  readonly directory: string
  readonly portalSocket: string
  /** Where its port is written when it listens. */
  readonly portFile: string
}

if (import.meta.main) {
  const { directory, portalSocket, portFile } = config<PeerConfig>()
  const env = serverEnvironment('peer', directory)
  const portal = { network: 'local', host: portalSocket, port: 0 } as const
  const server = new RedirectServer({
    env,
    host: PEER,
    storage: name => ({ name, portals: [portal], control: [] }),
    hbas: () => ['local'],
    dialTimeoutMs: () => 1_000,
  })
  const listener = await listenSessions(
    env,
    { network: 'cluster', host: '127.0.0.1', port: 0 },
    benchIdentity(PEER),
    () => ({ ok: true }),
    session => server.accept(session),
  )
  writeFileSync(`${portFile}.part`, String(listener.address.port))
  renameSync(`${portFile}.part`, portFile)
  endWithParent()
}
