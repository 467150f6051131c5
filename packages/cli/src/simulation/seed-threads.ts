// Seeds shared out among threads: each thread takes its share at once, and answers once for each seed of it.

import { createCompute } from '@stellwerk/runtime/node/compute.ts'

/** What a thread is given, with its own share of the seeds. */
export interface SeedShare {
  readonly seeds: readonly string[]
}

/** Resolves when all seeds have been answered for, or `onResult` has said that it has seen enough (true). */
export async function inThreads<J extends SeedShare>(
  module: URL,
  job: J,
  threads: number,
  onResult: (result: unknown) => boolean,
): Promise<void> {
  const { startWorker } = createCompute()
  const shares = Array.from({ length: threads }, (_, i) => job.seeds.filter((_seed, at) => at % threads === i))
  const workers = shares
    .filter(seeds => seeds.length > 0)
    .map(seeds => ({ seeds, worker: startWorker(module, { ...job, seeds }) }))
  try {
    await new Promise<void>((resolve, reject) => {
      let running = workers.length
      for (const { seeds, worker } of workers) {
        let left = seeds.length
        worker.onMessage(message => {
          left--
          if (onResult(message)) resolve()
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
