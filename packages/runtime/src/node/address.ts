// What the real network makes of addresses and of the system's errors about them. No sockets here.

import { isIP, type LookupFunction } from 'node:net'
import { basename } from 'node:path'
import type { Address } from '../environment.ts'
import { errorCode, errorMessage, StellwerkError } from '../errors.ts'
import { lookUp } from './look-up.ts'
import { SOCKET_NAME_MAX_BYTES } from './socket-path.ts'

/** `127.0.0.1:7400`, `[::1]:7400`, or the socket's path. */
export function formatAddress(address: Address): string {
  if (address.network === 'local') return address.host
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** A host's name as the name service has it (RFC 1123); underscores, since container engines name so. */
const NAME = /^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?$/

/** Where to connect, in the words of node:net. Throws `bad-address`. */
export function dialTarget(
  address: Address,
): { readonly path: string } | { readonly host: string; readonly port: number; readonly lookup?: LookupFunction } {
  if (address.network === 'local' || isIP(address.host) !== 0 || !NAME.test(address.host)) return endpoint(address)
  const { port } = endpoint({ ...address, host: '0.0.0.0' }) as { readonly port: number }
  return { host: address.host, port, lookup: lookUp }
}

/** Where to listen, in the words of node:net. Throws `bad-address`. */
export function endpoint(
  address: Address,
): { readonly path: string } | { readonly host: string; readonly port: number } {
  const bad = (message: string, hint: string) =>
    new StellwerkError('bad-address', message, { where: formatAddress(address), hint })
  if (address.network === 'local') {
    const nameBytes = Buffer.byteLength(basename(address.host))
    if (nameBytes === 0 || nameBytes > SOCKET_NAME_MAX_BYTES) {
      throw bad(`a socket's name has 1 to ${SOCKET_NAME_MAX_BYTES} bytes`, 'use a shorter name')
    }
    return { path: address.host }
  }
  if (isIP(address.host) === 0) throw bad(`${address.host} is not an IP address`, 'give the address, not the name')
  if (!Number.isInteger(address.port) || address.port < 0 || address.port > 65_535) {
    throw bad(`${address.port} is not a port`, 'a port is a number from 0 to 65535')
  }
  return { host: address.host, port: address.port }
}

/** The error of a dial that failed. */
export function dialError(address: Address, cause: unknown): StellwerkError {
  if (cause instanceof StellwerkError) return cause
  const where = formatAddress(address)
  const system = errorCode(cause)
  switch (system) {
    case 'ECONNREFUSED':
    case 'ENOENT':
      return new StellwerkError('refused', 'nothing listens there', {
        where,
        retryable: true,
        hint: 'see whether the process there runs',
        cause,
      })
    case 'EACCES':
    case 'EPERM':
      return new StellwerkError('access-denied', 'the system denies the connection', {
        where,
        hint: 'check permissions',
        cause,
      })
    default:
      return new StellwerkError('unreachable', `no connection: ${errorMessage(cause)}`, {
        where,
        retryable: true,
        cause,
      })
  }
}

export function dialTimeout(address: Address, timeoutMs: number): StellwerkError {
  return new StellwerkError('unreachable', `nobody answered within ${timeoutMs} ms`, {
    where: formatAddress(address),
    retryable: true,
  })
}

/** Listening there would take the place of something else. */
export function notASocket(path: string): StellwerkError {
  return new StellwerkError('address-in-use', 'what is there is no socket, and stays', {
    where: path,
    hint: 'name a path where nothing is',
  })
}

/** The error of a listen that failed. */
export function listenError(address: Address, cause: unknown): StellwerkError {
  const where = formatAddress(address)
  const isPath = address.network === 'local'
  switch (errorCode(cause)) {
    case 'EADDRINUSE':
      return new StellwerkError('address-in-use', 'the address is taken by another process', {
        where,
        hint: `stop that process, or use another ${isPath ? 'path' : 'port'}`,
        cause,
      })
    case 'EADDRNOTAVAIL':
      return new StellwerkError('address-unavailable', 'this machine does not have the address', {
        where,
        hint: "use one of this machine's addresses",
        cause,
      })
    case 'EACCES':
    case 'EPERM':
      return new StellwerkError('access-denied', 'the system denies listening there', {
        where,
        hint: isPath ? 'see whether its directory is there, and whose it is' : 'check permissions',
        cause,
      })
    default:
      return new StellwerkError(errorCode(cause), `can't listen: ${errorMessage(cause)}`, { where, cause })
  }
}
