// Many seeds of one plan in the simulator, in this thread or shared out among several; each gives its result as it comes.

import { createCompute } from '@stellwerk/runtime/node/compute.ts'
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
    await inThreads(job, jobs, onResult, stop)
    return
  }
  const plan = parsePlan(job.plan.file, job.plan.source, job.durationMs)
  for (const seed of job.seeds) {
    if (stop()) return
    onResult(await runSeedOf(plan, seed, job.canary))
  }
}

async function inThreads(
  job: SeedsJob,
  jobs: number,
  onResult: (result: SeedVerdict) => void,
  stop: () => boolean,
): Promise<void> {
  const { startWorker } = createCompute()
  const shares = Array.from({ length: jobs }, (_, i) => job.seeds.filter((_seed, at) => at % jobs === i))
  const workers = shares
    .filter(seeds => seeds.length > 0)
    .map(seeds => ({ seeds, worker: startWorker(WORKER, { ...job, seeds } satisfies SeedsJob) }))
  try {
    await new Promise<void>((resolve, reject) => {
      let running = workers.length
      for (const { seeds, worker } of workers) {
        let left = seeds.length
        worker.onMessage(message => {
          left -= 1
          onResult(message as SeedVerdict)
          if (stop()) resolve()
        })
        worker.onExit(error => {
          if (error !== null || left > 0) {
            reject(error ?? new Error(`a thread ended with ${left} seeds to go`))
          } else {
            running -= 1
            if (running === 0) resolve()
          }
        })
      }
    })
  } finally {
    await Promise.all(workers.map(({ worker }) => worker.terminate()))
  }
}
