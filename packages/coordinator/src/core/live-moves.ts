// VMs that are to leave a host, live: what is asked for, and what keeps one there.

import { shouldAsk } from './asking.ts'
import { isExport } from './exports.ts'
import { hostLive, isWanted, vmsAt } from './hosts.ts'
import { requestMigration } from './migration.ts'
import type { MigrationRecord } from './migration-record.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** A VM that could not be moved is tried again after so many heartbeats. */
const RETRY_BEATS = 2

/** Ids of the migrations that are asked for here. */
const IS_MOVE = /^(drain|strand)-/

export interface Move {
  readonly purpose: 'drain' | 'strand'
  /** Null: to where it fits best. */
  readonly to: string | null
}

export const SERVES_AN_EXPORT = 'it serves an export: end it, stellwerk disk unexport'

/** It runs here, and nothing is under way with it. */
export function isMovable(state: CoordinatorState, host: HostRecord, vm: VmRecord): boolean {
  const { placement, migration } = vm
  if (isExport(vm) || migration !== null || placement?.host !== host.name) return false
  return placement.phase === 'running' && isWanted(state, vm)
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
  if (isExport(vm)) whyNotMoved.set(vm.name, SERVES_AN_EXPORT)
  if (!isMovable(state, host, vm)) return
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

/** What is left there, and why each is: what was refused last, or what its last move was aborted for. */
export function leftAt(state: CoordinatorState, host: string): { readonly vm: string; readonly why: string | null }[] {
  const { whyNotMoved } = hostLive(state, host)
  return vmsAt(state, host).map(({ name }) => {
    const [last] = abortedMoves(state, host, name)
    const aborted = last === undefined ? null : `its last migration was aborted: ${reasonOf(last)}`
    return { vm: name, why: whyNotMoved.get(name) ?? aborted }
  })
}

/** Migrations that were to take the VM away from there, and did not; the newest first. */
export function abortedMoves(state: CoordinatorState, host: string, vm: string): MigrationRecord[] {
  return [...state.migrations.values()]
    .filter(each => each.vm === vm && each.source.host === host && each.phase === 'aborted' && IS_MOVE.test(each.id))
    .sort((a, b) => b.seq - a.seq)
}

export const reasonOf = ({ reason }: MigrationRecord): string => reason ?? 'no reason is known'
