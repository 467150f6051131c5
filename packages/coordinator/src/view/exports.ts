// Exports as operators see them: what is served, from where, and how it stands. Pure; the address is asked of the host.

import { isExport } from '../core/exports.ts'
import type { CoordinatorState, VmRecord } from '../core/state.ts'
import type { ExportView } from './schemas.ts'
import { vmView } from './vms.ts'

export function exportView(state: CoordinatorState, record: VmRecord, now: number): ExportView {
  const view = vmView(state, record, now)
  const { parameters, guest } = record.spec
  return {
    export: record.name,
    source: guest,
    volume: record.disks[0]?.volume ?? '',
    disk: record.disks[0]?.disk ?? '',
    name: String(parameters['name'] ?? ''),
    readOnly: parameters['readOnly'] === true,
    host: view.host,
    state: view.state,
    why: view.why ?? view.whyNot,
    uri: null,
    connections: null,
  }
}

export function exportViews(state: CoordinatorState, now: number): ExportView[] {
  return [...state.vms.values()]
    .filter(isExport)
    .map(record => exportView(state, record, now))
    .sort((a, b) => (a.source < b.source ? -1 : 1))
}
