// A chaos plan as it is understood: names, milliseconds and bytes. What it looks like in a file is parse-plan.ts.

import type { RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import type { Fault, FaultKind } from '../fault.ts'
import type { ChaosCluster, ChaosWorkload } from '../target.ts'
import type { Span } from './quantity.ts'

/** What of a fault is drawn from the seed where a plan does not say it. */
export type FaultChoice = Omit<Fault, 'id' | 'kind' | 'atMs' | 'lastsMs'>

export interface FixedFault {
  /** `FILE:LINE:COLUMN`, for when it can't be. */
  readonly where: string
  readonly kind: FaultKind
  readonly atMs: number
  /** At least, at most; drawn between. */
  readonly lastsMs: readonly [number, number]
  readonly choice: FaultChoice
}

export interface RandomKind {
  /** `FILE:LINE:COLUMN`, for when it can't be. */
  readonly where: string
  readonly kind: FaultKind
  readonly weight: number
  readonly lastsMs: readonly [number, number]
  readonly choice: FaultChoice
}

export interface RandomFaults {
  readonly fromMs: number
  readonly untilMs: number
  readonly meanGapMs: number
  readonly kinds: readonly RandomKind[]
}

/**
 * The blast radius: of each sort of thing, how many may be broken at once. A thing counts until `gapMs` after its fault has
 * ended, so that the cluster has had that long to recover.
 */
export interface Limits {
  readonly hosts: number
  readonly storages: number
  readonly fabrics: number
  readonly cables: number
  readonly coordinator: number
  /** Faults of any kind. */
  readonly faults: number
  readonly gapMs: number
}

export const OBJECTIVES = {
  failover:
    'from the loss of a host until each of its VMs acknowledges an entry elsewhere, where nothing attests the loss',
  'failover-attested': 'the same, where the death is attested',
  'downtime-p99': 'the 99th percentile of the time that a migrating guest stands still',
  'downtime-max': 'the longest time that a migrating guest stands still',
  outage: 'the longest time between two entries that a VM acknowledges',
  migrations: 'migrations committed, at least',
  failovers: 'VMs started elsewhere, at least',
} as const

export type ObjectiveName = keyof typeof OBJECTIVES

export type Objective =
  | {
      readonly name: 'failover' | 'failover-attested' | 'downtime-p99' | 'downtime-max' | 'outage'
      readonly within: Span
      /** Also held to where another fault was in force meanwhile. */
      readonly disturbed: boolean
    }
  | { readonly name: 'migrations' | 'failovers'; readonly atLeast: number }

export interface ChaosPlan {
  readonly name: string
  readonly summary: string
  /** Null: a new one for each run. */
  readonly seed: string | null
  readonly cluster: ChaosCluster
  readonly workload: ChaosWorkload
  /** Null: no migrations. */
  readonly migrateEveryMs: number | null
  /** The time of faults. */
  readonly durationMs: number
  /** After it, how long all that should run may take until it does. */
  readonly convergeMs: number
  readonly faults: readonly FixedFault[]
  readonly random: RandomFaults | null
  readonly limits: Limits
  /** Null: all that can be judged on the target. */
  readonly rules: readonly RuleId[] | null
  /** Of each of those `FILE:LINE:COLUMN`. */
  readonly rulesWhere: readonly string[]
  readonly objectives: readonly Objective[]
}
