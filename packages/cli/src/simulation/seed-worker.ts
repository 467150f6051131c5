// A thread that runs seeds one after the other and posts each result.

import { thisWorkerThread } from '@stellwerk/runtime/node/worker-thread.ts'
import { runSeed } from './run-seed.ts'
import type { SeedJob } from './seed-jobs.ts'

const thread = thisWorkerThread()
const { seeds, canary, tuning } = thread.data as SeedJob
for (const seed of seeds) {
  const result = await runSeed(seed, {
    ...(canary === undefined ? {} : { canary }),
    ...(tuning === undefined ? {} : { tuning }),
  })
  thread.post({ ...result, violations: [] })
}
