// Many seeds of one plan in the simulator, in this thread or shared out among several; each gives its result as it comes.

import { inThreads } from '../simulation/seed-threads.ts'
import { failuresOf } from './judge/judge.ts'
import { objectiveLine } from './judge/objectives.ts'
import type { PlanSource } from './plan/library.ts'
import { parsePlan } from './plan/parse-plan.ts'
import type { ChaosPlan } from './plan/plan.ts'
import { type JsonResult, jsonOf } from './report/json.ts'
import { runPlan } from './run.ts'
import { type FailureKey, failureKey } from './shrink-run.ts'
import { SimTarget } from './sim/sim-target.ts'

/** What is kept of a seed: no records. */
export interface SeedVerdict extends JsonResult {
  /** All that keeps it from having held, in words. */
  readonly failures: readonly string[]
  readonly key: FailureKey | null
}

export interface SeedsJob {
  readonly plan: PlanSource
  readonly durationMs?: number
  readonly canary?: string
  readonly seeds: readonly string[]
}

const WORKER = new URL('./seeds-worker.ts', import.meta.url)

export async function runSeedOf(plan: ChaosPlan, seed: string, canary?: string): Promise<SeedVerdict> {
  const result = await runPlan(new SimTarget(plan.cluster), { plan, seed, ...(canary === undefined ? {} : { canary }) })
  return { ...jsonOf(result), failures: failuresOf(result, objectiveLine), key: failureKey(result) }
}

/** Resolves when all have been run, or `stop` says so. */
export async function runSeedsOf(
  job: SeedsJob,
  jobs: number,
  onResult: (result: SeedVerdict) => void,
  stop: () => boolean,
): Promise<void> {
  if (jobs > 1) {
    await inThreads(WORKER, job, jobs, result => {
      onResult(result as SeedVerdict)
      return stop()
    })
    return
  }
  const plan = parsePlan(job.plan.file, job.plan.source, job.durationMs)
  for (const seed of job.seeds) {
    if (stop()) return
    onResult(await runSeedOf(plan, seed, job.canary))
  }
}
