// A coordinator that has started says so to every storage. Each keeps which run its highest term was, so that a run from an
// older copy of the state, which gives the same term out again, is refused and steps down.

import { shouldAsk } from './asking.ts'
import { orderedNames } from './external.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState } from './state.ts'

export function announceRun(state: CoordinatorState, now: number, out: StepOutput): void {
  const { run, announced, cluster } = state
  for (const storage of orderedNames(state)) {
    if (announced.has(storage)) continue
    const key = `run/${storage}`
    if (!shouldAsk(state, key, now, cluster.settings.requestMs)) continue
    out.effect({ kind: 'storage', key, storage, message: 'storage.coordinator', body: { term: cluster.term, run } })
  }
}
