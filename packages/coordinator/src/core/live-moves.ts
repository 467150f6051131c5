// VMs that are to leave a host, live: what is asked for, and what keeps one there.

import { shouldAsk } from './asking.ts'
import { isExport } from './exports.ts'
import { hostLive, isWanted, vmsAt } from './hosts.ts'
import { requestMigration } from './migration.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** A VM that could not be moved is tried again after so many heartbeats. */
const RETRY_BEATS = 2

export interface Move {
  readonly purpose: 'drain' | 'strand'
  /** Null: to where it fits best. */
  readonly to: string | null
}

/** What can't be moved at this moment, and why; null: nothing speaks against it. */
export function keepsHere(state: CoordinatorState, host: HostRecord, vm: VmRecord): string | null {
  const { placement } = vm
  if (isExport(vm)) return 'it serves an export: end it, stellwerk disk unexport'
  if (placement?.host !== host.name) return 'it is being received'
  if (vm.migration !== null) return 'it is being moved'
  if (placement.phase !== 'running' || !isWanted(state, vm)) return `it is ${placement.phase}`
  return null
}

/** Asks for a live migration of a VM that is at the host. */
export function moveAway(
  state: CoordinatorState,
  host: HostRecord,
  vm: VmRecord,
  { purpose, to }: Move,
  now: number,
  out: StepOutput,
): void {
  const { whyNotMoved } = hostLive(state, host.name)
  if (isExport(vm)) whyNotMoved.set(vm.name, 'it serves an export: end it, stellwerk disk unexport')
  if (keepsHere(state, host, vm) !== null) return
  if (!shouldAsk(state, `${purpose}/${vm.name}`, now, state.cluster.settings.heartbeatMs * RETRY_BEATS)) return
  const asked = requestMigration(
    state,
    `${purpose}-${state.cluster.term}-${state.decisionSeq + 1}`,
    vm.name,
    to,
    now,
    out,
  )
  if ('code' in asked) whyNotMoved.set(vm.name, asked.message)
  else whyNotMoved.delete(vm.name)
}

/** What has gone needs no reason any more. */
export function forgetMoved(state: CoordinatorState, host: string): void {
  const { whyNotMoved } = hostLive(state, host)
  const here = new Set(vmsAt(state, host).map(({ name }) => name))
  for (const vm of [...whyNotMoved.keys()]) if (!here.has(vm)) whyNotMoved.delete(vm)
}

/** What is left there, and why each is: what was refused last, what its last migration was aborted for, or what it is about. */
export function leftAt(state: CoordinatorState, host: string): { readonly vm: string; readonly why: string | null }[] {
  const { whyNotMoved } = hostLive(state, host)
  return vmsAt(state, host).map(({ name }) => ({
    vm: name,
    why: whyNotMoved.get(name) ?? lastAbort(state, host, name),
  }))
}

function lastAbort(state: CoordinatorState, host: string, vm: string): string | null {
  const aborted = [...state.migrations.values()].filter(
    each => each.vm === vm && each.source.host === host && each.phase === 'aborted',
  )
  const last = aborted.sort((a, b) => b.seq - a.seq)[0]
  return last === undefined ? null : `its last migration was aborted: ${last.reason ?? 'no reason is known'}`
}
