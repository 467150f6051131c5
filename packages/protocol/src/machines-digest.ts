// A checksum of a host's machines: beats carry it alone while nothing changes.

import { fnv1a } from './fnv1a.ts'
import type { ReportedMachine } from './messages/cluster.ts'

/** Over the machines in order of name: both sides compute it. */
export function digestOfMachines(machines: readonly ReportedMachine[]): number {
  const lines = machines.map(m => `${m.vm} ${m.epoch} ${m.state} ${m.why ?? ''}${guestWords(m.guest)}`)
  return fnv1a(lines.sort().join('\n'))
}

function guestWords(guest: ReportedMachine['guest']): string {
  if (guest === undefined) return ''
  const { version, hostName, os, interfaces } = guest
  const cards = interfaces.map(({ name, mac, addresses }) => [name, mac, ...addresses])
  return ` ${JSON.stringify([version, hostName, os, ...cards])}`
}
