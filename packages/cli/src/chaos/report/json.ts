// A run's result for programs. Fields are added, never renamed.

import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { FaultKind } from '../fault.ts'
import type { RunResult } from '../run.ts'

export interface JsonObjective {
  readonly name: string
  /** Milliseconds, or a count; null: there was nothing to measure. */
  readonly value: number | null
  readonly limit: number
  readonly ok: boolean
  readonly unit: 'ms' | 'count'
  readonly samples: number
  /** Samples beside those, which other faults disturbed and which were not held to it. */
  readonly disturbed: number
}

export interface JsonResult {
  readonly verdict: 'pass' | 'fail'
  readonly plan: string
  readonly on: string
  readonly seed: string
  readonly faults: { readonly [kind in FaultKind]?: number }
  readonly objectives: readonly JsonObjective[]
  readonly violations: readonly Violation[]
  /** What was found wrong otherwise, in words: damage on what is left, a crash, an interruption. */
  readonly findings: readonly string[]
  /** Why the run proves nothing, or null. */
  readonly lack: string | null
  readonly migrations: number
  readonly failovers: number
  readonly acknowledged: number
  readonly interrupted: boolean
  readonly traceHash: string | null
}

export function jsonOf(result: RunResult): JsonResult {
  const { verdict, plan, kind, seed, faults, violations, findings, lack, history, interrupted, traceHash } = result
  let acknowledged = 0
  for (const vm of history.vms.values()) acknowledged += vm.acknowledged.length
  return {
    ...{ verdict, plan: plan.name, on: kind, seed, faults },
    objectives: result.objectives.map(({ worst: _, ...objective }) => objective),
    ...{ violations, findings, lack },
    migrations: history.migrationsCommitted,
    failovers: history.failovers.length,
    ...{ acknowledged, interrupted, traceHash },
  }
}

/** Of a run that ended before there was anything to judge: it could not be set up, or read. */
export function unjudgedOf(plan: string, on: string, seed: string, why: string): JsonResult {
  return {
    ...{ verdict: 'fail', plan, on, seed, faults: {}, objectives: [], violations: [], findings: [why], lack: null },
    ...{ migrations: 0, failovers: 0, acknowledged: 0, interrupted: false, traceHash: null },
  }
}
