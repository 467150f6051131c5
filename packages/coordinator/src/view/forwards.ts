// A VM's lasting forwards as operators see them: what is on record, and how each fares on the hosts that are to listen. Pure.

import { forwardId, guestOf, placesOf } from '../core/lasting-forwards.ts'
import type { CoordinatorState, ForwardRecord, VmRecord } from '../core/state.ts'
import { isFresh, liveOf } from './hosts.ts'
import type { ForwardView } from './schemas.ts'

export function forwardViews(state: CoordinatorState, vm: VmRecord, now: number): ForwardView[] {
  return (vm.forwards ?? []).map(record => ({
    forward: forwardId(record),
    network: record.network,
    guest: guestOf(record),
    bits: record.bits,
    on: typeof record.on === 'object' ? `host ${record.on.host}` : record.on,
    hosts: placesOf(state, vm, record).map(place => {
      const { host, whyNot } = place
      if (whyNot !== null) return { host, state: 'closed', address: null, why: whyNot }
      return { host, ...reported(state, host, record, now) }
    }),
  }))
}

function reported(
  state: CoordinatorState,
  host: string,
  record: ForwardRecord,
  now: number,
): Omit<ForwardView['hosts'][number], 'host'> {
  if (!isFresh(state, host, now)) return { state: 'unknown', address: null, why: `host ${host} has not been heard` }
  const report = liveOf(state, host).forwards?.find(({ forward }) => forward === forwardId(record))
  if (report === undefined) return { state: 'opening', address: null, why: null }
  const address = `${report.address}:${record.port}`
  if (report.why !== null) return { state: 'closed', address, why: report.why }
  return { state: 'open', address, why: null }
}
