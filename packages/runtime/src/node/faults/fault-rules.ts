// What a chaos driver may do to the real environment's network, disks and wall clock: rules in one file for all of a cluster's
// processes, in the words of the simulator's rules. Shapes only. A process that was not started with the switch knows nothing
// of them.

import type { Shape, StaticVerdict, TrafficMatch } from '../../network-rules.ts'

export interface FaultRules {
  /** Who dials from where: each node's own source address. What comes from another address is no traffic of the cluster. */
  readonly nodes: { readonly [source: string]: string }
  /** Who listens where, by port. */
  readonly ports: { readonly [port: string]: string }
  readonly network: readonly NetworkFaultRule[]
  readonly disk: readonly DiskFaultRule[]
  readonly clock: readonly ClockFaultRule[]
}

/** A rule of the simulator's but for what can't be written down: `when`, and verdicts that look inside. */
export interface NetworkFaultRule extends Omit<TrafficMatch, 'when'> {
  readonly verdict: StaticVerdict | Repeat
}

/**
 * Requests on control links come twice with this chance, and the first answer is lost, as when a sender asks again. (A connection
 * repeats nothing by itself.) Of links opened while the rule is there; it begins by breaking those there are.
 */
export interface Repeat {
  readonly repeat: number
}

/** Of a file that is open. */
export type DiskOperation = 'read' | 'write' | 'sync' | 'punch' | 'truncate'

export interface DiskFaultRule {
  /** Whose files. */
  readonly node: string
  /** Paths that begin so, from the process's directory. */
  readonly path: string
  /** And that end so. */
  readonly suffix?: string
  readonly operation: readonly DiskOperation[]
  /** Per operation. Default 1. */
  readonly chance?: number
  readonly verdict: 'EIO' | 'ENOSPC' | { readonly delayMs: number; readonly jitterMs?: number }
}

export interface ClockFaultRule {
  readonly node: string
  /** Of the wall clock, for as long as the rule is there. */
  readonly byMs: number
}

export const NO_FAULTS: FaultRules = { nodes: {}, ports: {}, network: [], disk: [], clock: [] }

/** One that changes what is on its way: not a mere repetition. */
export function isRepeat(verdict: NetworkFaultRule['verdict']): verdict is Repeat {
  return typeof verdict === 'object' && 'repeat' in verdict
}

export function isShape(verdict: NetworkFaultRule['verdict']): verdict is Shape {
  return typeof verdict === 'object' && !('repeat' in verdict)
}
