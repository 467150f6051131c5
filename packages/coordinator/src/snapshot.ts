// The coordinator's state as JSON: what opens a trace segment, so that its core can be replayed from there.

import type { Json } from '@stellwerk/runtime/environment.ts'
import type { CoordinatorState } from './core/state.ts'

export function snapshotOf(state: CoordinatorState): Json {
  const { cluster, startedAt, wallAtStart, decisionSeq, mapVersion } = state
  return {
    cluster: cluster as unknown as Json,
    startedAt,
    wallAtStart,
    decisionSeq,
    mapVersion,
    storages: tableOf(state.storages),
    hosts: tableOf(state.hosts),
    vms: tableOf(state.vms),
    volumes: tableOf(state.volumes),
    migrations: tableOf(state.migrations),
    recoveries: tableOf(state.recoveries),
  }
}

function tableOf(records: ReadonlyMap<string, unknown>): Json {
  return Object.fromEntries(records) as Json
}
