// Whether a plan can be done on a target, as far as that is known before the target is made: what containers can't do is known
// without an engine to run them.

import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { refusedByContainers } from './compose/compose-faults.ts'
import type { Fault } from './fault.ts'
import { chosenRules, rulesOn } from './judge/rules.ts'
import { assertWithinLimits, drawSchedule, whereOf } from './plan/draw.ts'
import { completeChoice } from './plan/fault-table.ts'
import type { ChaosPlan } from './plan/plan.ts'
import { placed } from './run.ts'
import type { ChaosTarget } from './target.ts'
import { TARGETS } from './targets.ts'

type Kind = ChaosTarget['kind']
/** Of each fault, to see what may be drawn of what the plan does not say. */
const DRAWS = 20

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

/** On what the plan can be run whatever is drawn, given a machine that can do all that its kind can. */
export async function targetsOf(plan: ChaosPlan): Promise<Kind[]> {
  const random = new SimRandom(`targets of ${plan.name}`)
  const wanted = [...plan.faults, ...(plan.random?.kinds ?? [])].flatMap(({ kind, choice, lastsMs: [, lastsMs] }) =>
    Array.from(
      { length: DRAWS },
      (): Fault => ({ id: 1, kind, atMs: 0, lastsMs, ...completeChoice(kind, choice, plan.cluster, random) }),
    ),
  )
  const able: Kind[] = []
  for (const kind of Object.keys(TARGETS) as Kind[]) {
    const refuses = await refusalOn(kind, plan)
    const judges = plan.rules?.every(rule => rulesOn(kind).includes(rule)) ?? true
    if (judges && wanted.every(fault => refuses(fault) === null)) able.push(kind)
  }
  return able
}

async function refusalOn(kind: Kind, { cluster }: ChaosPlan): Promise<ChaosTarget['refuses']> {
  if (kind === 'compose') return fault => refusedByContainers(fault, true)
  const target = await TARGETS[kind](cluster, { keep: () => false, say: () => undefined })
  await target.close()
  return fault => target.refuses(fault)
}
