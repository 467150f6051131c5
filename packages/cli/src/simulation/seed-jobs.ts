// Runs seeds, in this thread or shared out among several, and gives each result as it comes.

import { createCompute } from '@stellwerk/runtime/node/compute.ts'
import type { PlanTuning } from './plan.ts'
import { runSeed, type SeedResult } from './run-seed.ts'

export interface SeedJob {
  readonly seeds: readonly string[]
  readonly canary?: string
  readonly tuning?: PlanTuning
}

const WORKER = new URL('./seed-worker.ts', import.meta.url)

/** Resolves when all have been run, or `onResult` has said that it has seen enough (true). */
export async function runSeeds(job: SeedJob, jobs: number, onResult: (result: SeedResult) => boolean): Promise<void> {
  if (jobs > 1) {
    await inThreads(job, jobs, onResult)
    return
  }
  const { seeds, ...options } = job
  for (const seed of seeds) if (onResult(await runSeed(seed, options))) return
}

async function inThreads(job: SeedJob, jobs: number, onResult: (result: SeedResult) => boolean): Promise<void> {
  const { startWorker } = createCompute()
  const shares = Array.from({ length: jobs }, (_, i) => job.seeds.filter((_, at) => at % jobs === i))
  const workers = shares
    .filter(seeds => seeds.length > 0)
    .map(seeds => ({ seeds, worker: startWorker(WORKER, { ...job, seeds } satisfies SeedJob) }))
  try {
    await new Promise<void>((resolve, reject) => {
      let running = workers.length
      for (const { seeds, worker } of workers) {
        let left = seeds.length
        worker.onMessage(message => {
          left--
          if (onResult(message as SeedResult)) resolve()
        })
        worker.onExit(error => {
          if (error !== null || left > 0) {
            reject(error ?? new Error(`a thread ended with ${left} seeds to go`))
          } else if (--running === 0) resolve()
        })
      }
    })
  } finally {
    await Promise.all(workers.map(({ worker }) => worker.terminate()))
  }
}
