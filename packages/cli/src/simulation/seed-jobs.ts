// Runs seeds, in this thread or shared out among several, and gives each result as it comes.

import type { PlanTuning } from './plan.ts'
import { runSeed, type SeedResult } from './run-seed.ts'
import { inThreads } from './seed-threads.ts'

export interface SeedJob {
  readonly seeds: readonly string[]
  readonly canary?: string
  readonly tuning?: PlanTuning
}

const WORKER = new URL('./seed-worker.ts', import.meta.url)

/** Resolves when all have been run, or `onResult` has said that it has seen enough (true). */
export async function runSeeds(job: SeedJob, jobs: number, onResult: (result: SeedResult) => boolean): Promise<void> {
  if (jobs > 1) {
    await inThreads(WORKER, job, jobs, result => onResult(result as SeedResult))
    return
  }
  const { seeds, ...options } = job
  for (const seed of seeds) if (onResult(await runSeed(seed, options))) return
}
