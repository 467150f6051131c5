// The planted bugs: what each is, the rule that must find it, and a seed in which it does. They stand in the code behind
// `canary(NAME)`; nothing but a simulation that is asked to ever switches one on.

import type { RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import type { PlanTuning } from './plan.ts'

export interface Canary {
  readonly name: string
  readonly rule: RuleId
  readonly what: string
  /** A seed that finds it, soon. The search goes on from here, should the code have moved on since. */
  readonly seed: number
  /** What makes it show within 200 seeds: more of the faults that bring it to light. */
  readonly tuning?: PlanTuning
}

export const CANARIES: readonly Canary[] = [
  { name: 'owner-not-refused', rule: 'CSV1', what: 'a deposed owner’s zeroing is not refused', seed: 4 },
  { name: 'session-not-drained', rule: 'IO3', what: 'a lower session is not closed when a higher one comes', seed: 9 },
]

export function canaryNamed(name: string): Canary | null {
  return CANARIES.find(canary => canary.name === name) ?? null
}
