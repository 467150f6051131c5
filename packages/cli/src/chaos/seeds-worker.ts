// A thread that runs seeds of a plan one after the other and posts each verdict.

import { thisWorkerThread } from '@stellwerk/runtime/node/worker-thread.ts'
import { runSeedOf, type SeedsJob } from './many-seeds.ts'
import { parsePlan } from './plan/parse-plan.ts'

const thread = thisWorkerThread()
const { plan: source, durationMs, canary, seeds } = thread.data as SeedsJob
const plan = parsePlan(source.file, source.source, durationMs)
for (const seed of seeds) thread.post(await runSeedOf(plan, seed, canary))
