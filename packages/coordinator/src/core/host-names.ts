// Names that no host can have: within a cluster hosts, storages and the coordinator are told apart by name alone, so what is
// meant for the one would reach the other.

import type { CoordinatorState } from './state.ts'

export const COORDINATOR_NAME = 'coordinator'

/** Why a host can't be called that; null: it can. */
export function whyNoHostName(state: Pick<CoordinatorState, 'storages'>, name: string): string | null {
  if (name === COORDINATOR_NAME) return `"${name}" is what the coordinator is called: no host can be`
  if (state.storages.has(name)) return `"${name}" is a storage of this cluster: no host can be called that too`
  return null
}
