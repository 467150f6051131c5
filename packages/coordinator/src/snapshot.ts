// The coordinator's whole state as JSON, what is durable and what only this run has seen: what opens a trace segment, so that
// its core can be replayed from there.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CoordinatorState } from './core/state.ts'
import { fromPlain, toPlain } from './replay/plain.ts'

/** Of the fields of `CoordinatorState`: raised when one comes, goes or means something else. */
export const SNAPSHOT_FORMAT = 7

export function snapshotOf(state: CoordinatorState): Json {
  return { format: SNAPSHOT_FORMAT, state: toPlain(state) }
}

/** A state of its own. Throws `other-version` for a snapshot of another format. */
export function stateOf(snapshot: Json): CoordinatorState {
  const { format, state } = (snapshot ?? {}) as { readonly format?: Json; readonly state?: Json }
  if (format === SNAPSHOT_FORMAT && state !== undefined) return fromPlain(state) as CoordinatorState
  const of = typeof format === 'number' ? `format ${format}` : 'an earlier format'
  throw new StellwerkError('other-version', `the coordinator's state is on record in ${of}, not ${SNAPSHOT_FORMAT}`, {
    hint: 'replay it with the version of Stellwerk that recorded it',
  })
}
