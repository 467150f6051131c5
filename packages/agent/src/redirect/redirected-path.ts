// The path of last resort: one NBD connection of this host to a LUN, carried by a peer over an io link. To the multipath set
// it is one more path; which peer it leads to is chosen with each connection.

import { connectNbd, type NbdClient, NbdError, NbdRefusal } from '@stellwerk/block/nbd/client.ts'
import type { PathDevice, PathTransport } from '@stellwerk/block/path/transport.ts'
import { bulkStream } from '@stellwerk/protocol/bulk-stream.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import { dialSession } from '@stellwerk/protocol/session-handshake.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { StandbyPeer } from './standby-routes.ts'

/** Direct paths are 0. */
export const REDIRECTED_PRIORITY = 10
/** Headers, and blocks of guests' usual size, share a frame; larger blocks go as they are. */
export const JOIN_BELOW_BYTES = 16 * 1024

export interface RedirectedPathOptions {
  readonly env: Environment
  readonly identity: Identity
  readonly storage: string
  /** Whom to ask, in order. */
  readonly peers: () => readonly StandbyPeer[]
  /** A peer could not be reached, or has no path, or what it carries is not answered. */
  readonly onFailed: (peer: string) => void
  /** One question to the storage, carried by this peer. */
  readonly probe: (peer: string) => Promise<void>
  /** For the link to a peer, and for the peer's answer. */
  readonly timeoutMs: number
  /** For a planted bug only: the peer's own epoch. */
  readonly epochOf: (peer: string) => number
}

export function redirectedPath(options: RedirectedPathOptions): PathTransport {
  const { env, storage, peers, onFailed } = options
  let via: string | null = null
  let current: NbdClient | null = null
  return {
    name: `redirected/${storage}`,
    priority: REDIRECTED_PRIORITY,
    standby: true,
    via: () => via,
    distrust: () => {
      if (via !== null) onFailed(via)
    },
    async connect(exportName: string, signal: AbortSignal): Promise<PathDevice> {
      let last: Error = new StellwerkError('no-route', `no peer is known that has a path to ${storage}`, {
        retryable: true,
      })
      for (const peer of peers()) {
        if (signal.aborted) break
        via = peer.name
        try {
          const device = await connectVia(options, peer, exportName, signal)
          current = device
          device.onState((state, why) => {
            if (current !== device || state !== 'closed') return
            current = null
            env.log.debug({ peer: peer.name, storage }, `the redirected path is gone: ${why}`)
          })
          return device
        } catch (error) {
          // The storage's own word, or ours: the way there is good.
          if (signal.aborted || error instanceof NbdRefusal || !(error instanceof Error)) throw error
          last = error
          onFailed(peer.name)
        }
      }
      if (signal.aborted) throw new NbdError('nbd-cancelled', 'the attempt to connect was given up', storage)
      throw last
    },
    async probe(): Promise<void> {
      const peer = via
      if (peer === null) throw new StellwerkError('no-route', `nobody carries it to ${storage}`, { retryable: true })
      try {
        await options.probe(peer)
      } catch (error) {
        onFailed(peer)
        throw error
      }
    },
  }
}

async function connectVia(
  options: RedirectedPathOptions,
  peer: StandbyPeer,
  exportName: string,
  signal: AbortSignal,
): Promise<NbdClient> {
  const { env } = options
  const asked = `${exportName}&via=${peer.name}`
  const stream = await openStream(options, peer, asked)
  if (signal.aborted) {
    stream.destroy()
    throw new NbdError('nbd-cancelled', 'the attempt to connect was given up', peer.name)
  }
  const name = canary('redirect-under-peers-epoch') ? underPeersName(asked, peer.name, options) : asked
  return connectNbd(stream, { exportName: name, timers: env.timers, signal, openTimeoutMs: null })
}

async function openStream(options: RedirectedPathOptions, peer: StandbyPeer, exportName: string): Promise<ByteStream> {
  const { env, identity, storage, timeoutMs } = options
  const session = await dialSession(env, peer.address, 'io', identity, { handshakeMs: timeoutMs })
  // With a callback: the portal's first bytes may come right behind the answer, and are no message.
  return new Promise((resolve, reject) => {
    session.requestWith('redirect.open', { storage, exportName }, timeoutMs, {}, error => {
      if (error === null) resolve(bulkStream(session, { joinBelowBytes: JOIN_BELOW_BYTES }))
      else {
        session.close('closed', 'nobody carries it')
        reject(error)
      }
    })
  })
}

/** Planted bug: the peer's identity, in a session above its own. */
function underPeersName(exportName: string, peer: string, { epochOf }: RedirectedPathOptions): string {
  return exportName
    .replace(/host=[^&]*/, `host=${peer}`)
    .replace(/epoch=[^&]*/, `epoch=${epochOf(peer)}`)
    .replace(/session=(\d+)\./, (_all, incarnation: string) => `session=${Number(incarnation) + 1_000}.`)
}
