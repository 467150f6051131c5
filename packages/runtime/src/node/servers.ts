// Listening: how a server of node:net or node:http is bound to an address, and ended with all that it accepted.

import { once } from 'node:events'
import { lstatSync, unlinkSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import type { Address, Listener } from '../environment.ts'
import { errorCode, type StellwerkError } from '../errors.ts'
import { endpoint, listenError, notASocket } from './address.ts'
import { reachSocket, type SocketPath } from './socket-path.ts'

/** How long accepted connections may take to end in order once their listener is closed. */
const CLOSE_GRACE_MS = 1000
const STALE_PROBE_MS = 1000
/** Connections a listener holds at once; the system drops those beyond. */
const CONNECTIONS_MAX = 4096

/** What a listener accepted. */
export interface Accepted {
  /** Ends it in order. */
  end(): void
  /** Drops it at once. */
  drop(): void
}

/** Binds `server`. `accepted` is what it accepted and is not gone; entries must leave the set when they are. */
export async function bind(server: Server, address: Address, accepted: ReadonlySet<Accepted>): Promise<Listener> {
  const target = endpoint(address)
  server.maxConnections = CONNECTIONS_MAX
  if (!('path' in target)) await listen(server, target).catch(error => Promise.reject(listenError(address, error)))
  else await bindSocket(server, address, target.path)
  const bound = server.address()
  const port = bound !== null && typeof bound === 'object' ? bound.port : 0
  let closing: Promise<void> | null = null
  return {
    address: { ...address, port },
    close: () => {
      closing ??= closeServer(server, accepted)
      return closing
    },
  }
}

/** `path`: the socket's, of any length. */
async function bindSocket(server: Server, address: Address, path: string): Promise<void> {
  let reached: SocketPath
  try {
    reached = reachSocket(path)
  } catch (error) {
    throw listenError(address, error)
  }
  // The server removes the socket by the path it was given.
  server.once('close', reached.release)
  try {
    await listen(server, reached)
    return
  } catch (error) {
    if (errorCode(error) !== 'EADDRINUSE') throw unbound(reached, listenError(address, error))
    if (!isSocket(reached.path)) throw unbound(reached, notASocket(path))
    // A process that was killed leaves its unix socket's file behind. If nobody answers there, it is ours to replace.
    if (await answers(reached.path)) throw unbound(reached, listenError(address, error))
  }
  try {
    unlinkSync(reached.path)
    await listen(server, reached)
  } catch (error) {
    throw unbound(reached, listenError(address, error))
  }
}

function unbound(reached: SocketPath, error: StellwerkError): StellwerkError {
  reached.release()
  return error
}

async function listen(server: Server, target: { path: string } | { host: string; port: number }): Promise<void> {
  server.listen('path' in target ? { path: target.path } : target)
  await once(server, 'listening')
}

/** What is no socket nobody answers on either, and yet it is somebody's: a file, a directory, a link to one. */
function isSocket(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() ?? true
}

/** True if something listens on the unix socket. */
async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect({ path, timeout: STALE_PROBE_MS })
  socket.on('connect', () => resolve(true))
  // One that is too busy to accept is alive.
  socket.on('timeout', () => resolve(true))
  socket.on('error', error => resolve(errorCode(error) !== 'ECONNREFUSED'))
  const result = await promise
  socket.destroy()
  return result
}

async function closeServer(server: Server, accepted: ReadonlySet<Accepted>): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  for (const connection of accepted) connection.end()
  const grace = setTimeout(() => {
    for (const connection of accepted) connection.drop()
  }, CLOSE_GRACE_MS)
  await closed
  clearTimeout(grace)
}
