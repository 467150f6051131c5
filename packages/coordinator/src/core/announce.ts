// A coordinator that has started says so to every storage, and then at which revision its state is, whenever that has changed. Each
// keeps which run its highest term was, and the highest revision it has heard of, so that a run from an older copy of the state, also
// from one that was made while a run went on, is refused and steps down.

import { shouldAsk } from './asking.ts'
import { VERSIONS_PER_TERM } from './cluster-copy.ts'
import { orderedNames } from './external.ts'
import type { Effect, StepOutput } from './output.ts'
import type { CoordinatorState } from './state.ts'

/** Of the time of a request: how long a run waits at most before it asks under a higher term. */
const AGAIN_SHARE = 0.1

export function announceRun(state: CoordinatorState, now: number, out: StepOutput): void {
  const { run, announcing, announced, cluster } = state
  for (const storage of orderedNames(state)) {
    // A storage that has not taken this run hears what it began with: what it changes makes an older copy look newer.
    const latest = announced.has(storage) ? state.revision : state.revisionAtStart
    if (announced.get(storage) === latest) continue
    const key = `run/${storage}`
    if (!shouldAsk(state, key, now, cluster.settings.requestMs)) continue
    // An answer may be to an earlier question: it is asked the same until there is one.
    const revision = announcing.get(storage) ?? latest
    announcing.set(storage, revision)
    const body = { term: cluster.term, run, revision }
    out.effect({ kind: 'storage', key, storage, message: 'storage.coordinator', body })
  }
}

/**
 * Whether this run may act: a storage has taken it for the newest one, and each other has answered or has let a question time out,
 * since one that was away, or was wiped, takes any. Where no storage could tell there is nothing to be asked.
 */
export function isTaken(state: CoordinatorState): boolean {
  const names = orderedNames(state)
  if (names.length === 0) return true
  return state.announced.size > 0 && names.every(name => state.announced.has(name) || state.unheard.has(name))
}

/** A sentence, of a run that is not taken: what it waits for. */
export function whyNotTaken(state: CoordinatorState): string {
  const { announced, unheard } = state
  const names = orderedNames(state)
  const wanted = 'whether its state is the newest is not known yet'
  if (announced.size === 0)
    return `the coordinator decides nothing: ${wanted}, since no storage (${names.join(', ')}) has answered`
  const silent = names.filter(name => !announced.has(name) && !unheard.has(name))
  return `the coordinator decides nothing: ${wanted}, since ${silent.join(', ')} has not answered`
}

/** Whether an effect may be carried out: none before the run is taken, and a storage's own only when it has taken it. */
export function mayAct({ announced }: CoordinatorState, taken: boolean, effect: Effect): boolean {
  switch (effect.kind) {
    case 'order':
    case 'owner':
      return taken
    case 'storage':
      return effect.message === 'storage.coordinator' || (taken && announced.has(effect.storage))
    default:
      return true
  }
}

/** What a storage says of the highest term it knows: whose it is, null: nobody's that has said so. */
export interface RunAnswer {
  readonly term: number
  readonly run: string | null
  /** The highest of the coordinator's state that it knows. */
  readonly revision: number
}

export function runAnswered(
  state: CoordinatorState,
  storage: string,
  answer: RunAnswer,
  now: number,
  out: StepOutput,
): void {
  if (answer.run === state.run && answer.term === state.cluster.term) {
    runTaken(state, storage, answer.revision)
    return
  }
  // An answer to a question that was put under the term before.
  if (answer.term < state.cluster.term) {
    state.announcing.delete(storage)
    return
  }
  if (isTaken(state)) {
    const why = `term ${answer.term} of storage ${storage} is another coordinator's`
    out.effect({ kind: 'step-down', why, replaced: true })
    return
  }
  // This state is as new as any that the storage has heard of, and an older one has used up terms meanwhile.
  out.raiseTerm(answer.term + 1)
  state.mapVersion = Math.max(state.mapVersion, state.cluster.term * VERSIONS_PER_TERM)
  state.announced.clear()
  state.announcing.clear()
  state.vouched = true
  // Two that start at once would pass each other for ever in the same step.
  const retryAt = now + state.cluster.settings.requestMs * AGAIN_SHARE * shareOf(state.run)
  for (const name of orderedNames(state)) state.outstanding.set(`run/${name}`, { retryAt })
}

/** From 0 to 1, another for each run. */
function shareOf(run: string): number {
  let sum = 0
  for (const character of run) sum = (sum * 31 + character.charCodeAt(0)) % 1_000
  return sum / 1_000
}

function runTaken(state: CoordinatorState, storage: string, revision: number): void {
  const { announcing, announced, outstanding } = state
  // What it was to be asked was held back until now.
  if (!announced.has(storage))
    for (const key of outstanding.keys()) if (key.endsWith(`/${storage}`)) outstanding.delete(key)
  announced.set(storage, revision)
  state.vouched = true
  announcing.delete(storage)
}

/** No way to it yet is no answer: it has as long as any question. */
export function runUnanswered(state: CoordinatorState, storage: string, now: number): void {
  if (now - state.startedAt >= state.cluster.settings.requestMs) state.unheard.add(storage)
  state.announcing.delete(storage)
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
  if ((host.phase !== 'admitted' && host.phase !== 'admitting') || fenced < host.epoch) return null
  return `storage ${storage} has fenced epoch ${fenced} of host ${name}, of which nothing is known here; ${OLDER_HINT}`
}

export const OLDER_HINT =
  'the state directory is older than the cluster: restore the newer one, or use "stellwerk cluster restore"'
