// A checksum of a host's machines: beats carry it alone while nothing changes.

import type { ReportedMachine } from './messages/cluster.ts'

/** FNV-1a over the machines in order of name: both sides compute it. */
export function digestOfMachines(machines: readonly ReportedMachine[]): number {
  let hash = 0x811c9dc5
  const text = machines
    .map(m => `${m.vm} ${m.epoch} ${m.state} ${m.why ?? ''}`)
    .sort()
    .join('\n')
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  }
  return hash
}
