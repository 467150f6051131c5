// What can be done to containers, and why the rest can't: a container's cables, its processes and, where the kernel has netem, the
// quality of its cables. Its disks, its clock and the middle of a connection are out of reach.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Fault, NetworkOf } from '../fault.ts'

const ELSEWHERE = 'run it on local, or on sim'

export function refusedByContainers(fault: Fault, hasNetem: boolean): StellwerkError | null {
  const no = (why: string, hint = ELSEWHERE) =>
    new StellwerkError('fault-unsupported', `${fault.kind} can't be done to containers: ${why}`, { hint })
  switch (fault.kind) {
    case 'partition':
      return no('a cable leads to all others, not to one', 'say host-isolate or cable-pull, or run it on local or sim')
    case 'ports-closed':
      return no('a container has no filter for whom it listens to', 'say host-isolate, or run it on local or sim')
    case 'duplicate':
      return no('a packet that comes twice is one to TCP')
    case 'disk-slow':
    case 'disk-full':
    case 'io-error':
    case 'corrupt-block':
      return no('the storages of the project have no disk of their own that could')
    case 'clock-jump':
      return no('all containers have the clock of the machine')
    case 'loss':
    case 'delay':
    case 'slow-link':
      if (fault.oneWay === true || fault.peer !== undefined) return no('a cable leads to all others, both ways')
      if (hasNetem) return null
      return no(
        'it needs root, tc and nsenter, and a kernel with netem',
        `install them (iproute2, util-linux), or ${ELSEWHERE}`,
      )
    default:
      return null
  }
}

/** Of a host: those that a fault takes. */
export function cablesOf(fault: Fault): readonly NetworkOf[] {
  if (fault.kind === 'cable-pull') return [`fabric-${fault.fabric ?? 0}`]
  if (fault.network !== undefined) return [fault.network]
  if (fault.kind === 'host-isolate' && fault.fabrics === false) return ['cluster']
  return ['cluster', 'fabric-0', 'fabric-1', 'guest']
}

/** Words for `tc qdisc … netem`. */
export function netemWords({ kind, chance, delayMs, jitterMs, mibPerSecond }: Fault): readonly string[] {
  if (kind === 'loss') return ['loss', `${((chance ?? 0) * 100).toFixed(2)}%`]
  if (kind === 'slow-link') return ['rate', `${Math.round((mibPerSecond ?? 1) * 8 * 1_024)}kbit`]
  return ['delay', `${delayMs ?? 0}ms`, ...((jitterMs ?? 0) > 0 ? [`${jitterMs}ms`] : [])]
}
