// An address as operators write it: `127.0.0.1:7400`, `[::1]:7400`, or a socket's path.

import type { Address } from '@stellwerk/runtime/environment.ts'

export function formatHostPort(address: Address): string {
  if (address.network === 'local') return address.host
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}
