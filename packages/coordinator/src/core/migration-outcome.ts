// How a migration ended, for the sides of it that ask: of one that is remembered by its record, else by the VM's.

import { hostLive } from './hosts.ts'
import type { MigrationEnd, MigrationRecord } from './migration-record.ts'
import type { CoordinatorState } from './state.ts'

export type Outcome = 'committed' | 'aborted' | 'pending'

/** Who asks, as what: a source by the placement that it has released, a target by the one that it was to get. */
export interface Asker {
  readonly migration: string
  readonly vm: string
  readonly host: string
  readonly incarnation: number
  readonly epoch: number
}

/** Only an abort lets the source run again. */
export function outcomeForSource(state: CoordinatorState, asker: Asker): Outcome {
  const migration = state.migrations.get(asker.migration)
  if (migration !== undefined) return outcomeOf(migration)
  return whenForgotten(state, asker, 'aborted', 'committed')
}

/** Only a commit lets the target run. */
export function outcomeForTarget(state: CoordinatorState, asker: Asker): Outcome {
  const migration = state.migrations.get(asker.migration)
  return migration === undefined ? whenForgotten(state, asker, 'committed', 'aborted') : outcomeOf(migration)
}

export function outcomeOf(migration: MigrationRecord): Outcome {
  if (isBeforeCommit(migration)) return 'pending'
  return migration.phase === 'aborted' ? 'aborted' : 'committed'
}

/**
 * A migration that is remembered no more, or that a restored coordinator never knew: the VM's record alone tells whose it
 * is. Whoever has it at this very placement goes on, if its host stands (else the fence has the last word); anybody else
 * has lost it, however that came.
 */
function whenForgotten(state: CoordinatorState, asker: Asker, itsOwn: Outcome, lost: Outcome): Outcome {
  const placement = state.vms.get(asker.vm)?.placement
  const placed =
    placement?.host === asker.host && placement.incarnation === asker.incarnation && placement.epoch === asker.epoch
  if (!placed) return lost
  return isStillThere(state, placement) ? itsOwn : 'pending'
}

/** Admitted at the same epoch and, as far as is known, with the same agent. */
export function isStillThere(
  state: CoordinatorState,
  end: Pick<MigrationEnd, 'host' | 'hostEpoch' | 'incarnation'>,
): boolean {
  const host = state.hosts.get(end.host)
  if (host === undefined || host.phase !== 'admitted' || host.epoch !== end.hostEpoch) return false
  const incarnation = hostLive(state, end.host).incarnation
  return incarnation === null || incarnation === end.incarnation
}

export function isBeforeCommit(migration: MigrationRecord): boolean {
  return migration.phase === 'preparing' || migration.phase === 'precopy' || migration.phase === 'switching'
}
