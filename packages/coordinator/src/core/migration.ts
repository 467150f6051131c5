// The migration state machine: requested → preparing → precopy → switching → committed → done, or aborted from anywhere
// before the commit. Commit and abort are a compare-and-set on the VM's one record, durable before anyone is told.

import type { Cpu } from '@stellwerk/protocol/cpu-levels.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { shouldAsk } from './asking.ts'
import type { Input } from './core.ts'
import { whyNotCpu } from './cpu-baseline.ts'
import { isExport } from './exports.ts'
import { hostLive, isWanted, volumesOf } from './hosts.ts'
import { orderFor } from './lifecycle.ts'
import {
  type Asker,
  isBeforeCommit,
  isStillThere,
  type Outcome,
  outcomeForTarget,
  outcomeOf,
} from './migration-outcome.ts'
import type { MigrationEnd, MigrationLimits, MigrationRecord } from './migration-record.ts'
import type { StepOutput } from './output.ts'
import { isServing } from './ownership.ts'
import { choose, whyNot } from './placement.ts'
import { isQuarantined } from './quarantine.ts'
import type { CoordinatorState, CopyProgress, HostRecord, MigrationLive, VmRecord } from './state.ts'

export type Refusal = { readonly code: string; readonly message: string; readonly hint: string }

function migrationLive(state: CoordinatorState, id: string, now: number): MigrationLive {
  let live = state.liveMigrations.get(id)
  if (live === undefined) {
    live = { phaseSince: now, prepared: false, sourceDone: false, targetDone: false }
    state.liveMigrations.set(id, live)
  }
  return live
}

/** Admits a migration or says why not. `to` null: wherever is best. */
export function requestMigration(
  state: CoordinatorState,
  id: string,
  name: string,
  to: string | null,
  now: number,
  out: StepOutput,
  limits: MigrationLimits = {},
): MigrationRecord | Refusal {
  const vm = state.vms.get(name)
  if (vm === undefined || isExport(vm))
    return { code: 'unknown-vm', message: `there is no VM "${name}"`, hint: 'see: stellwerk vm list' }
  const admitted = admit(state, vm, to)
  if ('code' in admitted) return admitted
  const { source, target, rejected } = admitted
  const epoch = vm.epoch + 1
  const migration: MigrationRecord = {
    id,
    vm: name,
    source,
    target: endAt(state, target),
    epoch,
    phase: 'preparing',
    reason: null,
    requestedWallMs: out.now.wallMs,
    seq: state.decisionSeq + 1,
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
    statistics: {},
  }
  out.put('migrations', id, migration)
  out.put('vms', name, { ...vm, epoch, migration: id })
  migrationLive(state, id, now)
  out.decide({
    kind: 'migrate',
    subject: name,
    saw: { from: source.host, requested: to, ...limits },
    chose: `to ${target.name} at placement epoch ${epoch}`,
    rejected,
    why: to === null ? 'it fits there and is least loaded' : 'it was asked for',
  })
  trace(out, migration, 'migration.requested')
  pruneMigrations(state, now, out)
  return migration
}

function admit(
  state: CoordinatorState,
  vm: VmRecord,
  to: string | null,
): Refusal | { source: MigrationEnd; target: HostRecord; rejected: readonly { option: string; why: string }[] } {
  const placement = vm.placement
  if (placement === null || placement.phase !== 'running' || !isWanted(state, vm)) {
    const is = placement === null ? 'stopped' : placement.phase
    return { code: 'not-running', message: `VM "${vm.name}" is ${is}`, hint: 'only a running VM can be migrated' }
  }
  if (vm.migration !== null) {
    return {
      code: 'migrating',
      message: `VM "${vm.name}" is already being migrated`,
      hint: 'wait, or cancel that migration',
    }
  }
  if (to === placement.host) {
    return { code: 'same-host', message: `VM "${vm.name}" is already on host "${to}"`, hint: 'name another host' }
  }
  const source = state.hosts.get(placement.host)
  if (source?.phase !== 'admitted' || hostLive(state, placement.host).session?.incarnation !== placement.incarnation) {
    const message = `host "${placement.host}", where VM "${vm.name}" runs, does not answer`
    return { code: 'source-away', message, hint: `see: stellwerk why host ${placement.host}` }
  }
  for (const volume of volumesOf(vm)) {
    const recovering = [...state.recoveries.values()].some(r => r.volume === volume)
    if (recovering || !isServing(state, volume)) {
      return {
        code: 'volume-busy',
        message: `volume "${volume}" has no serving owner or is being recovered`,
        hint: 'try again',
      }
    }
  }
  let target: HostRecord | null = null
  let rejected: readonly { option: string; why: string }[] = []
  if (to === null) {
    const choice = choose(state, vm, [placement.host], { live: true })
    if (choice.host === null) {
      const why = choice.rejected.map(r => `${r.option}: ${r.why}`).join('; ')
      const message = `no other host can take VM "${vm.name}": ${why}`
      return { code: 'no-host', message, hint: 'make room on one of them, or try again' }
    }
    target = choice.host
    rejected = choice.rejected
  } else {
    target = state.hosts.get(to) ?? null
    if (target === null || target.removed)
      return { code: 'unknown-host', message: `there is no host "${to}"`, hint: 'see: stellwerk host list' }
    if (isQuarantined(target)) {
      const message = `host "${to}" is in quarantine: ${target.quarantine?.why}`
      return { code: 'host-quarantined', message, hint: `end it first: stellwerk host resume ${to}` }
    }
    const why = whyNot(state, vm, target) ?? whyNotCpu(state, vm, target)
    if (why !== null) {
      const message = `host "${to}" cannot take VM "${vm.name}": ${why}`
      return { code: 'host-unfit', message, hint: 'name another host, or none' }
    }
  }
  for (const host of [placement.host, target.name]) {
    if (migrationsAt(state, host) >= state.cluster.settings.migrationsPerHost) {
      return {
        code: 'busy',
        message: `host "${host}" already takes part in as many migrations as it may`,
        hint: 'try again',
      }
    }
  }
  const { host, hostEpoch, incarnation } = placement
  return { source: { host, hostEpoch, incarnation }, target, rejected }
}

function cpuOf({ placement }: VmRecord): { cpu?: Cpu } {
  return placement?.cpu === undefined ? {} : { cpu: placement.cpu }
}

function endAt(state: CoordinatorState, host: HostRecord): MigrationEnd {
  const incarnation = hostLive(state, host.name).session?.incarnation ?? 0
  return { host: host.name, hostEpoch: host.epoch, incarnation }
}

function migrationsAt(state: CoordinatorState, host: string): number {
  let count = 0
  for (const migration of state.migrations.values()) {
    if (isOver(migration)) continue
    if (migration.source.host === host || migration.target.host === host) count += 1
  }
  return count
}

function isOver(migration: MigrationRecord): boolean {
  return migration.phase === 'done' || migration.phase === 'aborted'
}

// --- what comes in -----------------------------------------------------------------------------------------------------------

/** The target has it all. The commit: from here the VM is the target's. */
export function loaded(state: CoordinatorState, message: Asker, now: number, out: StepOutput): Outcome {
  const migration = state.migrations.get(message.migration)
  if (migration === undefined || migration.phase !== 'switching') return outcomeForTarget(state, message)
  const vm = state.vms.get(migration.vm)
  const target = state.hosts.get(migration.target.host)
  const good =
    vm?.migration === migration.id &&
    vm.placement?.host === migration.source.host &&
    message.host === migration.target.host &&
    message.incarnation === migration.target.incarnation &&
    message.epoch === migration.epoch &&
    target?.phase === 'admitted' &&
    target.epoch === migration.target.hostEpoch
  if (!good || vm === undefined) return outcomeOf(migration)
  const committed: MigrationRecord = { ...migration, phase: 'committed' }
  out.put('migrations', migration.id, committed)
  out.put('vms', vm.name, {
    ...vm,
    placement: {
      ...migration.target,
      epoch: migration.epoch,
      phase: 'running',
      why: `migrated from ${migration.source.host}`,
      ...cpuOf(vm),
    },
  })
  migrationLive(state, migration.id, now).phaseSince = now
  out.trace({
    level: 'decision',
    kind: 'migration.committed',
    vm: vm.name,
    migration: migration.id,
    body: { epoch: migration.epoch, source: migration.source.host, target: migration.target.host },
  })
  tellOutcome(state, committed, now, out)
  return 'committed'
}

export function abortMigration(
  state: CoordinatorState,
  id: string,
  reason: string,
  now: number,
  out: StepOutput,
): boolean {
  const migration = state.migrations.get(id)
  if (migration === undefined || !isBeforeCommit(migration)) return false
  const vm = state.vms.get(migration.vm)
  const aborted: MigrationRecord = { ...migration, phase: 'aborted', reason }
  out.put('migrations', id, aborted)
  if (vm?.migration === id) out.put('vms', vm.name, { ...vm, migration: null })
  migrationLive(state, id, now).phaseSince = now
  out.decide({
    kind: 'migration-abort',
    subject: migration.vm,
    saw: { migration: id, phase: migration.phase },
    chose: `it stays on ${migration.source.host}`,
    why: reason,
  })
  out.trace({
    level: 'decision',
    kind: 'migration.aborted',
    vm: migration.vm,
    migration: id,
    body: { epoch: migration.epoch, source: migration.source.host, target: migration.target.host, reason },
  })
  tellOutcome(state, aborted, now, out)
  return true
}

export function failed(
  state: CoordinatorState,
  message: { migration: string; host: string; incarnation: number; reason: string },
  now: number,
  out: StepOutput,
): void {
  const migration = state.migrations.get(message.migration)
  if (migration === undefined) return
  const end = [migration.source, migration.target].find(e => e.host === message.host)
  if (end?.incarnation !== message.incarnation) return
  abortMigration(state, message.migration, `${message.host}: ${message.reason}`, now, out)
}

/** What a source of another version leaves out is not known: 0. */
function progressOf(message: Extract<Input, { kind: 'migration-progress' }>): CopyProgress {
  const { round = 0, pagesSent = 0, bytesSent = 0, dirtyPages = 0, forecastMs = 0 } = message
  const { totalBytes = 0, leftBytes = 0, bytesPerSecond = 0, dirtyBytesPerSecond = 0 } = message
  const counts = { round, pagesSent, bytesSent, dirtyPages, forecastMs }
  return { ...counts, totalBytes, leftBytes, bytesPerSecond, dirtyBytesPerSecond }
}

/** The source's pre-copy has converged: switch. */
export function progressed(
  state: CoordinatorState,
  message: Extract<Input, { kind: 'migration-progress' }>,
  now: number,
  out: StepOutput,
): void {
  const migration = state.migrations.get(message.migration)
  if (migration === undefined) return
  if (isOver(migration)) tellOutcome(state, migration, now, out)
  if (!isOver(migration)) migrationLive(state, migration.id, now).progress = progressOf(message)
  if (!message.converged) return
  if (migration.phase !== 'precopy' && migration.phase !== 'preparing') return
  const switching: MigrationRecord = { ...migration, phase: 'switching' }
  out.put('migrations', migration.id, switching)
  migrationLive(state, migration.id, now).phaseSince = now
  trace(out, switching, 'migration.switching')
  orderSwitch(state, switching, now, out)
}

/** One side has finished its part; when both have, it is over. */
export function done(
  state: CoordinatorState,
  message: { migration: string; host: string; incarnation: number; statistics: Record<string, number> },
  now: number,
  out: StepOutput,
): void {
  const migration = state.migrations.get(message.migration)
  if (migration === undefined) return
  const live = migrationLive(state, migration.id, now)
  const of = (end: MigrationEnd) => message.host === end.host && message.incarnation === end.incarnation
  if (of(migration.source)) live.sourceDone = true
  if (of(migration.target)) live.targetDone = true
  if (Object.keys(message.statistics).length === 0) return
  out.put('migrations', migration.id, { ...migration, statistics: { ...migration.statistics, ...message.statistics } })
}

// --- what drives it on ---------------------------------------------------------------------------------------------------------

export function workOnMigrations(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const migration of [...state.migrations.values()]) {
    switch (migration.phase) {
      case 'preparing':
      case 'precopy':
      case 'switching':
        drive(state, migration, now, out)
        break
      case 'committed':
        finish(state, migration, now, out)
        break
      case 'aborted':
      case 'done':
        tellOutcome(state, migration, now, out)
        break
    }
  }
}

function drive(state: CoordinatorState, migration: MigrationRecord, now: number, out: StepOutput): void {
  const why = whyAbort(state, migration, now)
  if (why !== null) {
    abortMigration(state, migration.id, why, now, out)
    return
  }
  if (migration.phase === 'preparing' || migration.phase === 'precopy') orderCopy(state, migration, now, out)
  else orderSwitch(state, migration, now, out)
}

/** What makes it pointless or impossible to go on. In `switching` a lost source is no reason: it may have sent it all. */
function whyAbort(state: CoordinatorState, migration: MigrationRecord, now: number): string | null {
  const { settings } = state.cluster
  const vm = state.vms.get(migration.vm)
  if (vm === undefined || vm.migration !== migration.id) return 'the VM is not being migrated by it any more'
  if (!isStillThere(state, migration.target)) return `the target ${migration.target.host} is not what it was`
  if (!isStillThere(state, migration.source)) {
    const source = state.hosts.get(migration.source.host)
    const fencing = source?.phase === 'fencing' && source.epoch === migration.source.hostEpoch
    if (migration.phase !== 'switching' || !fencing) return `the source ${migration.source.host} is not what it was`
  }
  if (!isWanted(state, vm) && migration.phase !== 'switching') return 'the VM is to be stopped'
  const live = migrationLive(state, migration.id, now)
  const ageMs = now - live.phaseSince
  if (migration.phase === 'preparing' && ageMs > settings.prepareMs)
    return `preparing took longer than ${settings.prepareMs} ms`
  if (migration.phase === 'precopy' && ageMs > settings.precopyMs)
    return `pre-copy took longer than ${settings.precopyMs} ms`
  if (migration.phase === 'switching' && ageMs > settings.switchMs)
    return `the switch-over took longer than ${settings.switchMs} ms`
  return null
}

function orderCopy(state: CoordinatorState, migration: MigrationRecord, now: number, out: StepOutput): void {
  const { requestMs } = state.cluster.settings
  const vm = state.vms.get(migration.vm)
  const source = state.hosts.get(migration.source.host)
  if (vm === undefined || source === undefined) return
  const live = migrationLive(state, migration.id, now)
  if (live.prepared) return
  const sendKey = `mig-send/${migration.id}`
  if (shouldAsk(state, sendKey, now, requestMs)) {
    const body = {
      migration: migration.id,
      vm: migration.vm,
      epoch: vm.placement?.epoch ?? 0,
      incarnation: migration.source.incarnation,
      targetHost: migration.target.host,
      targetEpoch: migration.epoch,
      downtimeMs: state.cluster.settings.downtimeMs,
      ...migration.limits,
    }
    out.effect({ kind: 'order', key: sendKey, host: migration.source.host, message: 'migration.send', body })
  }
}

/** The source waits for the target's link: now the target may dial it. */
export function sourceReady(state: CoordinatorState, id: string, now: number, out: StepOutput): void {
  const migration = state.migrations.get(id)
  if (migration === undefined || migration.phase !== 'preparing') return
  const vm = state.vms.get(migration.vm)
  const source = state.hosts.get(migration.source.host)
  if (vm === undefined || source === undefined) return
  const key = `mig-receive/${migration.id}`
  if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) return
  const body = {
    migration: migration.id,
    order: orderFor(vm, { ...migration.target, epoch: migration.epoch, ...cpuOf(vm) }),
    sourceHost: source.name,
    source: source.control satisfies Address,
  }
  out.effect({ kind: 'order', key, host: migration.target.host, message: 'migration.receive', body })
}

/** The target has made room and linked to the source. */
export function targetReady(state: CoordinatorState, id: string, now: number, out: StepOutput): void {
  const migration = state.migrations.get(id)
  if (migration === undefined) return
  const live = migrationLive(state, id, now)
  live.prepared = true
  if (migration.phase !== 'preparing') return
  const copying: MigrationRecord = { ...migration, phase: 'precopy' }
  out.put('migrations', id, copying)
  live.phaseSince = now
  trace(out, copying, 'migration.precopy')
}

function orderSwitch(state: CoordinatorState, migration: MigrationRecord, now: number, out: StepOutput): void {
  const key = `mig-switch/${migration.id}`
  if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) return
  const body = {
    migration: migration.id,
    vm: migration.vm,
    epoch: state.vms.get(migration.vm)?.placement?.epoch ?? 0,
    incarnation: migration.source.incarnation,
  }
  out.effect({ kind: 'order', key, host: migration.source.host, message: 'migration.switch', body })
}

/** Both sides are told until they have said that they are done, or their host is not what it was. */
function tellOutcome(state: CoordinatorState, migration: MigrationRecord, now: number, out: StepOutput): void {
  const untold = untoldOf(state, migration, now)
  if (untold.length === 0) return
  const message = migration.phase === 'aborted' ? 'migration.abort' : 'migration.commit'
  const rest = migration.phase === 'aborted' ? { reason: migration.reason ?? '' } : {}
  const body = { migration: migration.id, vm: migration.vm, epoch: migration.epoch, ...rest }
  for (const end of untold) {
    const key = `mig-outcome/${migration.id}/${end.host}`
    if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    out.effect({ kind: 'order', key, host: end.host, message, body })
  }
}

/** The sides that have not said that they are done, and may have the VM yet: a host that was fenced has nothing any more. */
function untoldOf(state: CoordinatorState, migration: MigrationRecord, now: number): MigrationEnd[] {
  const live = migrationLive(state, migration.id, now)
  const ends: MigrationEnd[] = []
  if (!live.targetDone) ends.push(migration.target)
  if (!live.sourceDone) ends.push(migration.source)
  return ends.filter(end => isStillThere(state, end))
}

/** After the commit: over when the target said so (or is lost: then it is a failover's turn) and the source too. */
function finish(state: CoordinatorState, migration: MigrationRecord, now: number, out: StepOutput): void {
  const live = migrationLive(state, migration.id, now)
  tellOutcome(state, migration, now, out)
  const sourceOver = live.sourceDone || !isStillThere(state, migration.source)
  // A lost target is a failover's affair at once: the source has released the VM, and resumes only on an abort.
  if (isStillThere(state, migration.target) && !(live.targetDone && sourceOver)) return
  const over: MigrationRecord = { ...migration, phase: 'done' }
  out.put('migrations', migration.id, over)
  const vm = state.vms.get(migration.vm)
  if (vm?.migration === migration.id) out.put('vms', vm.name, { ...vm, migration: null })
  trace(out, over, 'migration.done')
}

/**
 * Forgets the oldest that are over. One of which a side has yet to be told stays: no more can come of these than a host
 * takes part in at once, as a host that does not answer gets no new ones.
 */
function pruneMigrations(state: CoordinatorState, now: number, out: StepOutput): void {
  const over = [...state.migrations.values()].filter(isOver).sort((a, b) => a.seq - b.seq)
  const surplus = over.slice(0, Math.max(0, over.length - state.cluster.settings.migrationsKept))
  for (const migration of surplus) {
    if (untoldOf(state, migration, now).length > 0) continue
    out.remove('migrations', migration.id)
    state.liveMigrations.delete(migration.id)
  }
}

function trace(out: StepOutput, migration: MigrationRecord, kind: string): void {
  out.trace({
    level: 'decision',
    kind,
    vm: migration.vm,
    migration: migration.id,
    body: { source: migration.source.host, target: migration.target.host, epoch: migration.epoch },
  })
}
