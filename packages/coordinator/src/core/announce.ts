// A coordinator that has started says so to every storage, and then at which revision its state is, whenever that has changed. Each
// keeps which run its highest term was, and the highest revision it has heard of, so that a run from an older copy of the state, also
// from one that was made while a run went on, is refused and steps down.

import { shouldAsk } from './asking.ts'
import { orderedNames } from './external.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState } from './state.ts'

export function announceRun(state: CoordinatorState, now: number, out: StepOutput): void {
  const { run, announcing, announced, cluster } = state
  // Until it is known not to be an older copy's, what it began with.
  const revision = isTaken(state) ? state.revision : state.revisionAtStart
  for (const storage of orderedNames(state)) {
    if (announced.get(storage) === revision) continue
    const key = `run/${storage}`
    if (!shouldAsk(state, key, now, cluster.settings.requestMs)) continue
    announcing.set(storage, revision)
    const body = { term: cluster.term, run, revision }
    out.effect({ kind: 'storage', key, storage, message: 'storage.coordinator', body })
  }
}

/** Whether a storage has taken this run for the newest one. Before that it carries nothing out. */
export function isTaken(state: CoordinatorState): boolean {
  return state.announced.size > 0 || orderedNames(state).length === 0
}

export function runTaken({ announcing, announced }: CoordinatorState, storage: string): void {
  const revision = announcing.get(storage)
  if (revision !== undefined) announced.set(storage, revision)
}

/** What a storage has seen is newer than what we know: our state is an older copy, and must decide nothing. Null: it is not. */
export function whyOlderThan(
  state: CoordinatorState,
  name: string,
  storage: string,
  { admitted, fenced }: { readonly admitted: number; readonly fenced: number },
): string | null {
  const host = state.hosts.get(name)
  if (host === undefined) return null
  const seen = Math.max(admitted, fenced)
  if (seen > host.epoch)
    return `storage ${storage} has seen epoch ${seen} of host ${name}, known here: ${host.epoch}; ${OLDER_HINT}`
  if (host.phase !== 'admitted' || fenced < host.epoch) return null
  return `storage ${storage} has fenced epoch ${fenced} of host ${name}, of which nothing is known here; ${OLDER_HINT}`
}

export const OLDER_HINT =
  'the state directory is older than the cluster: restore the newer one, or use "stellwerk cluster restore"'
