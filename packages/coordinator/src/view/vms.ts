// VMs and migrations as operators see them: what is wanted and what is, side by side. Pure.

import { cpuText } from '@stellwerk/protocol/cpu-levels.ts'
import { externalsOfVm, whyNotSilent } from '../core/external.ts'
import { guestFactsOf } from '../core/guest-facts.ts'
import { isWanted } from '../core/hosts.ts'
import { isBeforeCommit } from '../core/migration-outcome.ts'
import type { MigrationRecord } from '../core/migration-record.ts'
import type { CoordinatorState, VmRecord } from '../core/state.ts'
import { forwardViews } from './forwards.ts'
import { ageOfHost, isFresh, liveOf } from './hosts.ts'
import { progressView } from './migration-progress.ts'
import type { MigrationView, VmView } from './schemas.ts'
import { storageRung } from './storage-ladder.ts'

export function migrationView(state: CoordinatorState, migration: MigrationRecord, now: number): MigrationView {
  const live = state.liveMigrations.get(migration.id)
  return {
    id: migration.id,
    vm: migration.vm,
    from: migration.source.host,
    to: migration.target.host,
    phase: migration.phase,
    epoch: migration.epoch,
    reason: migration.reason,
    requestedWallMs: migration.requestedWallMs,
    ...(migration.limits === undefined ? {} : { limits: { ...migration.limits } }),
    phaseMs: live === undefined ? null : Math.max(0, now - live.phaseSince),
    progress: isBeforeCommit(migration) && live?.progress !== undefined ? progressView(live.progress) : null,
    statistics: { ...live?.progress, ...migration.statistics },
  }
}

/** Of a real machine that is somewhere. */
function guestAgentOf(state: CoordinatorState, vm: VmRecord, now: number): VmView['guestAgent'] {
  if (vm.spec.hypervisor !== 'qemu' || vm.placement === null) return null
  const nothing = { version: null, hostName: null, os: null, interfaces: [] }
  if (!isFresh(state, vm.placement.host, now)) return { state: 'unknown', ...nothing }
  const facts = guestFactsOf(state, vm)
  if (facts === null) return { state: 'absent', ...nothing }
  const interfaces = facts.interfaces.map(({ name, mac, addresses }) => ({ name, mac, addresses: [...addresses] }))
  return { state: 'there', ...facts, interfaces }
}

interface Actual {
  readonly state: string
  readonly why: string | null
  readonly ageMs: number | null
}

export function vmView(state: CoordinatorState, vm: VmRecord, now: number): VmView {
  const actual = vm.placement === null ? unplaced(state, vm) : placed(state, vm, now)
  const migration = vm.migration === null ? undefined : state.migrations.get(vm.migration)
  const missing = isWanted(state, vm) && vm.placement === null
  return {
    name: vm.name,
    state: actual.state,
    desired: vm.desired,
    ageMs: actual.ageMs,
    host: vm.placement?.host ?? null,
    epoch: vm.placement?.epoch ?? vm.epoch,
    why: actual.why,
    whyNot: missing ? whyNotOf(state, vm) : null,
    hypervisor: vm.spec.hypervisor,
    guest: vm.spec.guest,
    memoryBytes: vm.spec.memoryBytes,
    cpu: vm.placement?.cpu === undefined ? null : cpuText(vm.placement.cpu),
    parameters: { ...vm.spec.parameters },
    nics: (vm.spec.nics ?? []).map(({ network, mac, addresses }) => ({ network, mac, addresses: [...addresses] })),
    forwards: forwardViews(state, vm, now),
    guestAgent: guestAgentOf(state, vm, now),
    priority: vm.priority,
    preferredHost: vm.preferredHost,
    failures: vm.failures,
    restart: { ...vm.restart },
    crashes: vm.crashes.length,
    relocations: vm.relocations.length,
    disks: vm.disks.map(disk => ({ ...disk })),
    migration: migration === undefined ? null : migrationView(state, migration, now),
    storage: storageRung(state, vm, now),
  }
}

function whyNotOf(state: CoordinatorState, vm: VmRecord): string | null {
  if (vm.gaveUp !== null) return `${vm.gaveUp}; start it again: stellwerk vm start ${vm.name}`
  return state.liveVms.get(vm.name)?.whyNot ?? null
}

/** What a host says before the reason. */
const CRITICAL = 'paused-critical: '

/** Nothing of it is left anywhere: the coordinator's own fact, as old as this look at it. */
function unplaced(state: CoordinatorState, vm: VmRecord): Actual {
  const fact = (name: string, why: string | null = null): Actual => ({ state: name, why, ageMs: 0 })
  if (vm.desired === 'deleted') return fact('deleting')
  if (!isWanted(state, vm)) return fact('stopped')
  if (vm.gaveUp !== null) return fact('failed', vm.gaveUp)
  if (vm.lost !== null) return fact('lost', `its host ${vm.lost.host} was lost`)
  return fact('waiting')
}

function placed(state: CoordinatorState, vm: VmRecord, now: number): Actual {
  const placement = vm.placement!
  const ageMs = ageOfHost(state, placement.host, now)
  if (!isFresh(state, placement.host, now)) {
    const host = state.hosts.get(placement.host)
    const waits = host?.fence != null ? whyNotSilent(state, host, externalsOfVm(state, vm)) : null
    return { state: 'unknown', why: waits ?? `host ${placement.host} has not been heard`, ageMs }
  }
  if (vm.migration !== null) return { state: 'migrating', why: null, ageMs }
  const machine = liveOf(state, placement.host).machines.get(vm.name)
  if (machine?.epoch !== placement.epoch) return { state: placement.phase, why: placement.why, ageMs }
  // Told to stop, it still says that it runs: the order is on its way.
  const phase = placement.phase === 'stopping' && machine.state === 'running' ? 'stopping' : machine.state
  // Its host holds it still for want of room: not by a lease, and it goes on by itself.
  if (phase === 'frozen' && machine.why?.startsWith(CRITICAL) === true) {
    return { state: 'paused-critical', why: machine.why.slice(CRITICAL.length), ageMs }
  }
  return { state: phase, why: machine.why, ageMs }
}
