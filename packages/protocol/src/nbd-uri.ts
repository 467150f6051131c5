// NBD URIs, as the NBD project's specification has them: what tools take, and what commands print. Without TLS.

import type { Address } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export const NBD_PORT = 10_809

export interface NbdTarget {
  readonly address: Address
  readonly exportName: string
}

export function formatNbdUri({ address, exportName }: NbdTarget): string {
  const path = encodeURIComponent(exportName)
  if (address.network === 'local') return `nbd+unix:///${path}?socket=${encodeURIComponent(address.host)}`
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `nbd://${host}:${address.port}/${path}`
}

export function isNbdUri(text: string): boolean {
  return /^nbds?(\+\w+)?:\/\//.test(text)
}

/** Throws `bad-uri`. */
export function parseNbdUri(text: string): NbdTarget {
  const bad = (message: string, hint: string) => new StellwerkError('bad-uri', message, { where: text, hint })
  let uri: URL
  try {
    uri = new URL(text)
  } catch (error) {
    throw new StellwerkError('bad-uri', 'that is no URI', { where: text, hint: HINT, cause: error })
  }
  const exportName = nameIn(uri, bad)
  switch (uri.protocol) {
    case 'nbd:': {
      const host = uri.hostname.replace(/^\[|\]$/g, '')
      if (host === '') throw bad('it names no host', HINT)
      const port = uri.port === '' ? NBD_PORT : Number(uri.port)
      return { address: { network: 'cluster', host: host === 'localhost' ? '127.0.0.1' : host, port }, exportName }
    }
    case 'nbd+unix:': {
      const socket = uri.searchParams.get('socket')
      if (socket === null || socket === '') throw bad('it names no socket', HINT)
      return { address: { network: 'local', host: socket, port: 0 }, exportName }
    }
    default:
      throw bad(`${uri.protocol}// is not spoken here`, HINT)
  }
}

const HINT = 'say nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH'

/** All that stands behind the first slash. */
function nameIn(uri: URL, bad: (message: string, hint: string) => StellwerkError): string {
  try {
    return decodeURIComponent(uri.pathname.replace(/^\//, ''))
  } catch {
    throw bad('its name is not encoded as names are', 'write % as %25')
  }
}
