// What the tests of chaos plans share: plans of the library, cut short, and a result in words.

import { failuresOf } from 'stellwerk/chaos/judge/judge.ts'
import { type ObjectiveResult, objectiveLine } from 'stellwerk/chaos/judge/objectives.ts'
import { findPlan } from 'stellwerk/chaos/plan/library.ts'
import { parsePlan } from 'stellwerk/chaos/plan/parse-plan.ts'
import type { ChaosPlan } from 'stellwerk/chaos/plan/plan.ts'
import { type RunOptions, type RunResult, runPlan } from 'stellwerk/chaos/run.ts'
import { SimTarget } from 'stellwerk/chaos/sim/sim-target.ts'
import type { ChaosTarget } from 'stellwerk/chaos/target.ts'
import { expect } from 'vitest'

export const LIBRARY = [
  'rolling-kill',
  'cable-monkey',
  'split-brain',
  'storage-loss',
  'coordinator-storm',
  'everything',
] as const

export async function libraryPlan(name: string, durationMs?: number): Promise<ChaosPlan> {
  const { file, source } = await findPlan(name, '.')
  return parsePlan(file, source, durationMs)
}

/** A machine that is so many times slower than the plans are for. */
const SLOW = 10

const isMissed = ({ ok, unit, value, limit }: ObjectiveResult): boolean =>
  !ok && (unit === 'count' || (value ?? Number.POSITIVE_INFINITY) > SLOW * limit)

/**
 * A plan of the library holds on real processes: rules, ledgers and counts as it says; how fast things go depends on the machine, so
 * of times only what is far too late fails. `open` is told whether what a failure has left is to be kept, for a look at it.
 */
export async function holdsOn(
  name: string,
  durationMs: number,
  open: (keep: () => boolean) => ChaosTarget | Promise<ChaosTarget>,
): Promise<void> {
  const plan = await libraryPlan(name, durationMs)
  let held = false
  const target = await open(() => !held)
  const { violations, findings, lack, objectives } = await runPlan(target, {
    plan,
    seed: '1',
    onJudged: verdict => {
      held = verdict === 'pass'
    },
  })
  console.log(`${name}: ${objectives.map(each => `${each.name} ${each.value} of ${each.limit}`).join(', ')}`)
  expect({ violations, findings, lack, missed: objectives.filter(isMissed) }).toEqual({
    ...{ violations: [], findings: [], lack: null, missed: [] },
  })
}

/** So much shorter that there is not the time for all that it counts on, or measures. */
export async function shortPlan(name: string, durationMs: number): Promise<ChaosPlan> {
  const plan = await libraryPlan(name, durationMs)
  const objectives = plan.objectives.filter(({ name }) => name === 'outage')
  return { ...plan, convergeMs: 10_000, workload: { ...plan.workload, vms: 2 }, objectives }
}

export function simulate(plan: ChaosPlan, seed: string, more: Partial<RunOptions> = {}): Promise<RunResult> {
  return runPlan(new SimTarget(plan.cluster), { plan, seed, ...more })
}

/** `pass`, or what failed and how to see it again. */
export function wordsOf(result: RunResult): string {
  if (result.verdict === 'pass') return 'pass'
  const again = `stellwerk chaos run ${result.plan.name} --on sim --seed ${result.seed}`
  return [...failuresOf(result, objectiveLine), again].join('\n')
}
