// What others call this machine: the names that the name service has for its addresses. In a container they tell its own name
// and the networks that it is in.

import { resolvePtr } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'

/** Sorted. An address without a name has none. */
export async function ownNames(): Promise<string[]> {
  const addresses = Object.values(networkInterfaces()).flatMap(list =>
    (list ?? []).flatMap(({ family, internal, address }) => (family === 'IPv4' && !internal ? [address] : [])),
  )
  // Not `reverse`: the system's own list of hosts, which comes first there, has no more than a container's number.
  const names = await Promise.all(addresses.map(address => resolvePtr(pointerOf(address)).catch(() => [])))
  return [...new Set(names.flat())].sort()
}

/** RFC 1035, 3.5. */
function pointerOf(address: string): string {
  return `${address.split('.').reverse().join('.')}.in-addr.arpa`
}
