// Free ports on this machine, to be remembered. They lie below the range from which the system gives ports to outgoing
// connections: there, one that is free today may be taken by anybody's connection at the next start.

import type { Environment, Listener } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'

const FIRST = 20_000
const LAST = 32_000
const ATTEMPTS_MAX = 500

/** `count` ports that nobody listens on at the moment. */
export async function findPorts(env: Environment, host: string, count: number): Promise<number[]> {
  const held: Listener[] = []
  const ports: number[] = []
  let candidate = FIRST + env.random.int(LAST - FIRST)
  try {
    for (let attempt = 0; ports.length < count && attempt < ATTEMPTS_MAX; attempt++) {
      candidate = candidate >= LAST ? FIRST : candidate + 1
      try {
        held.push(await env.network.listenStream({ network: 'cluster', host, port: candidate }, s => s.destroy()))
        ports.push(candidate)
      } catch (error) {
        if (errorCode(error) !== 'address-in-use') throw error
      }
    }
  } finally {
    for (const listener of held) await listener.close()
  }
  if (ports.length < count) {
    throw new StellwerkError('no-ports', `found only ${ports.length} of ${count} free ports from ${FIRST} to ${LAST}`, {
      where: host,
      hint: 'stop what listens there',
    })
  }
  return ports
}
