// Names to addresses for connections, by asking the name service itself: Node's own way goes over the thread pool, where hung file
// operations can hold it up for ever. What is in the system's list of hosts alone is not found.

import { Resolver } from 'node:dns/promises'
import type { LookupFunction } from 'node:net'

const TIMEOUT_MS = 1_000
const TRIES = 2

const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES })

/** As `lookup` of `net.connect`; IPv4. Asked anew each time: a name may move. */
export const lookUp: LookupFunction = (host, options, done) => {
  // Of this machine, whatever the name service says (RFC 6761).
  const found = host === 'localhost' ? Promise.resolve(['127.0.0.1']) : resolver.resolve4(host)
  found.then(
    addresses => {
      if (options.all === true)
        done(
          null,
          addresses.map(address => ({ address, family: 4 })),
        )
      else done(null, addresses[0] ?? '', 4)
    },
    (error: NodeJS.ErrnoException) => done(error, ''),
  )
}
