// Whether a plan can be done on a target, as far as that is known before the target is made: what containers can't do is known
// without an engine to run them.

import { refusedByContainers } from './compose/compose-faults.ts'
import type { Fault } from './fault.ts'
import { chosenRules } from './judge/rules.ts'
import { assertWithinLimits, drawSchedule, whereOf } from './plan/draw.ts'
import type { ChaosPlan } from './plan/plan.ts'
import { placed } from './run.ts'
import type { ChaosTarget } from './target.ts'

type Kind = ChaosTarget['kind']

/** What the seed draws. Throws what keeps the plan from being run on such a target, on whatever machine. */
export function drawnFor(plan: ChaosPlan, seed: string, kind: Kind): readonly Fault[] {
  chosenRules(plan, kind)
  assertWithinLimits(plan, seed)
  const schedule = drawSchedule(plan, seed)
  for (const fault of schedule) {
    const refusal = kind === 'compose' ? refusedByContainers(fault, true) : null
    if (refusal !== null) throw placed(refusal, whereOf(plan, fault))
  }
  return schedule
}

/** Whether the target must be asked as well: making one of containers takes an engine, and only netem is this machine's matter. */
export function mustAskTarget(kind: Kind, schedule: readonly Fault[]): boolean {
  return kind !== 'compose' || schedule.some(fault => refusedByContainers(fault, false) !== null)
}
