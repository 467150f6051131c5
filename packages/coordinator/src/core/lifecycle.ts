// A VM's life: its disks, starting, stopping, and starting again after its host was lost or it failed.

import { isOver, type ReportedMachine, type VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import { leaseWaitMs } from '@stellwerk/protocol/settings.ts'
import { shouldAsk } from './asking.ts'
import { VERSIONS_PER_TERM } from './cluster-copy.ts'
import { chooseCpu } from './cpu-baseline.ts'
import { exportEnded, exportedOf, isExport } from './exports.ts'
import { externalsOfVm, isExternal, whyNotRestored } from './external.ts'
import { deadAt, unsettledByRestore } from './fencing.ts'
import { hostLive, isWanted, storagesOf, volumesOf } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { isServing, whyNotOpened } from './ownership.ts'
import { awaited, type Choice, choose } from './placement.ts'
import { backoffAfter, countCrash, countRelocation, giveUp, giveUpRelocating } from './restart-policy.ts'
import type { CoordinatorState, Placement, VmLive, VmRecord } from './state.ts'

/** A VM that has run for so long without failing starts with a clean slate. */
const FORGIVEN_MS = 60_000

export function vmLive(state: CoordinatorState, name: string): VmLive {
  let live = state.liveVms.get(name)
  if (live === undefined) {
    live = { backoffUntil: 0, runningSince: null, whyNot: null, endedAt: null }
    state.liveVms.set(name, live)
  }
  return live
}

export function workOnVms(state: CoordinatorState, now: number, out: StepOutput): void {
  const inOrder = [...state.vms.values()].sort((a, b) => b.priority - a.priority || (a.name < b.name ? -1 : 1))
  for (const vm of inOrder) {
    takeReport(state, vm, now, out)
    settleLost(state, current(state, vm), now, out)
    // An export that has ended is gone for good.
    if (!state.vms.has(vm.name)) continue
    const updated = current(state, vm)
    if (updated.placement === null) workOnUnplaced(state, updated, now, out)
    else if (updated.migration === null) workOnPlaced(state, updated, updated.placement, now, out)
  }
  forgetFinished(state, now, out)
  stopStrays(state, now, out)
}

function current(state: CoordinatorState, vm: VmRecord): VmRecord {
  return state.vms.get(vm.name) ?? vm
}

function reportOf(state: CoordinatorState, vm: string, placement: Placement): ReportedMachine | null {
  const live = hostLive(state, placement.host)
  if (live.session?.incarnation !== placement.incarnation || !live.machinesKnown) return null
  const machine = live.machines.get(vm)
  return machine?.epoch === placement.epoch ? machine : null
}

/** What the host says of the VM: it runs, or nothing of it is left. */
function takeReport(state: CoordinatorState, vm: VmRecord, now: number, out: StepOutput): void {
  const placement = vm.placement
  if (placement === null || vm.migration !== null) return
  const machine = reportOf(state, vm.name, placement)
  if (machine === null) return
  if (isExport(vm) && isOver(machine.state)) {
    exportEnded(state, vm, machine.why ?? 'it was ended', out)
    return
  }
  switch (machine.state) {
    case 'running': {
      const live = vmLive(state, vm.name)
      live.runningSince ??= now
      if (vm.failures > 0 && now - live.runningSince > FORGIVEN_MS) out.put('vms', vm.name, { ...vm, failures: 0 })
      if (placement.phase === 'starting') {
        out.put('vms', vm.name, { ...vm, placement: { ...placement, phase: 'running' } })
        out.trace({
          level: 'decision',
          kind: 'vm.started',
          vm: vm.name,
          host: placement.host,
          body: { epoch: placement.epoch },
        })
      }
      break
    }
    case 'stopped':
      out.put('vms', vm.name, { ...vm, placement: null, failures: 0 })
      break
    case 'halted':
      out.put('vms', vm.name, {
        ...vm,
        placement: null,
        failures: 0,
        desired: vm.desired === 'running' ? 'stopped' : vm.desired,
      })
      out.decide({
        kind: 'vm-halted',
        subject: vm.name,
        saw: { host: placement.host, reason: machine.why },
        chose: 'leave it stopped',
        why: 'the guest ended by itself',
      })
      break
    case 'crashed':
    case 'failed':
      takeFailure(state, vm, placement, machine, now, out)
      break
    default:
      break
  }
}

/** A crash is the guest's own; a failure is its host's, which could not run it: that one is not held against the VM. */
function takeFailure(
  state: CoordinatorState,
  vm: VmRecord,
  placement: Placement,
  machine: ReportedMachine,
  now: number,
  out: StepOutput,
): void {
  const crashed = machine.state === 'crashed'
  // A machine that was gone before it could be taken over is as lost as its agent.
  const wasLeft = placement.adopts !== undefined && placement.phase === 'starting'
  const backoffMs = wasLeft ? 0 : backoffAfter(vm.restart, vm.failures)
  const live = vmLive(state, vm.name)
  live.backoffUntil = now + backoffMs
  live.runningSince = null
  live.endedAt = { host: placement.host, crashed, why: machine.why }
  const counted = crashed ? countCrash(state, vm, machine.why, now) : vm
  const after: VmRecord = { ...counted, placement: null, failures: vm.failures + (wasLeft ? 0 : 1) }
  const again = vm.desired === 'running' && after.gaveUp === null
  if (again || after.gaveUp === null) out.put('vms', vm.name, after)
  out.decide({
    kind: 'vm-failed',
    subject: vm.name,
    saw: { host: placement.host, crashed, reason: machine.why, failures: after.failures },
    chose: again ? `start it again in ${backoffMs} ms` : 'do not start it again',
    why: `${crashed ? 'its guest crashed' : 'its host reports that nothing of it is left'}${machine.why === null ? '' : `: ${machine.why}`}`,
  })
  if (after.gaveUp !== null) giveUp(after, after.gaveUp, out)
}

/** An instance whose host is fenced is given up once it is surely dead. */
function settleLost(state: CoordinatorState, vm: VmRecord, now: number, out: StepOutput): void {
  const placement = vm.placement
  if (placement === null || vm.migration !== null) return
  const host = state.hosts.get(placement.host)
  if (host === undefined || host.epoch !== placement.hostEpoch) return
  const dead = deadAt(state, host, vm, placement)
  if (dead === null || now < dead.at) return
  if (isExport(vm)) {
    exportEnded(state, vm, `its host ${host.name} was lost`, out)
    return
  }
  const externals = externalsOfVm(state, vm)
  const lost = {
    host: host.name,
    hostEpoch: placement.hostEpoch,
    epoch: placement.epoch,
    attested: dead.attested,
    legs: storagesOf(state, vm),
  }
  out.put('vms', vm.name, { ...vm, placement: null, lost })
  out.decide({
    kind: 'vm-lost',
    subject: vm.name,
    saw: {
      ...{ host: host.name, hostEpoch: host.epoch, attested: dead.attested, by: host.fence?.attestedBy ?? null },
      ...(externals.length === 0 ? {} : { withoutEpochs: externals }),
    },
    chose: vm.desired === 'running' ? 'start it elsewhere' : 'leave it stopped',
    why: dead.attested ? 'its old instance was attested dead' : 'every lease its host may have held is over',
  })
}

function workOnUnplaced(state: CoordinatorState, vm: VmRecord, now: number, out: StepOutput): void {
  if (vm.desired === 'deleted' && isExport(vm)) {
    exportEnded(state, vm, 'it was ended', out)
    return
  }
  if (vm.desired === 'deleted') {
    deleteDisks(state, vm, now, out)
    return
  }
  if (!createDisks(state, vm, now, out)) return
  if (!isWanted(state, vm)) return
  const live = vmLive(state, vm.name)
  live.whyNot = whyNotNow(state, vm, live, now)
  if (live.whyNot !== null) return
  const choice = chooseAgain(state, vm, live, now)
  if (choice.host === null) {
    live.whyNot = `no host fits: ${choice.rejected.map(r => `${r.option}: ${r.why}`).join('; ')}`
    return
  }
  const left = leftHost(vm, live)
  const moves = left !== null && left !== choice.host.name
  const counted = moves ? countRelocation(state, vm, now) : vm
  if (counted === null) {
    giveUpRelocating(vm, left ?? 'nowhere', out)
    return
  }
  const epoch = vm.epoch + 1
  const incarnation = hostLive(state, choice.host.name).session?.incarnation ?? 0
  const why = vm.lost === null ? 'it is to run' : `its host ${vm.lost.host} was lost`
  const cpu = chooseCpu(state, vm, choice.host)
  const placement: Placement = {
    host: choice.host.name,
    hostEpoch: choice.host.epoch,
    incarnation,
    epoch,
    phase: 'starting',
    why,
    ...(cpu === null ? {} : { cpu }),
  }
  const lost = vm.lost
  live.endedAt = null
  const forgotten = vm.formerlyLost == null ? {} : { formerlyLost: null }
  out.put('vms', vm.name, { ...counted, epoch, placement, lost: null, ...forgotten })
  out.decide({
    kind: 'place',
    subject: vm.name,
    saw: { desired: vm.desired, lost: lost?.host ?? null, epoch },
    chose: choice.host.name,
    rejected: choice.rejected,
    why: choice.asLastResort ? `${why}; every host that fits is in quarantine: this one as a last resort` : why,
  })
  if (lost !== null) {
    out.trace({
      level: 'decision',
      kind: 'failover.start',
      vm: vm.name,
      body: {
        from: lost.host,
        fromEpoch: lost.hostEpoch,
        to: choice.host.name,
        epoch,
        attested: lost.attested,
        legs: lost.legs.filter(storage => !isExternal(state, storage)),
        withoutEpochs: lost.legs.filter(storage => isExternal(state, storage)),
        waitMs: leaseWaitMs(state.cluster.settings),
      },
    })
  }
  workOnPlaced(state, current(state, vm), placement, now, out)
}

/** The host it was with when that was lost or could not run it: anywhere else is a relocation. */
function leftHost(vm: VmRecord, live: VmLive): string | null {
  return vm.lost?.host ?? (live.endedAt?.crashed === false ? live.endedAt.host : null)
}

/** After a crash in place, if it fits; after a failure of its host rather on another, if it may move at all. */
function chooseAgain(state: CoordinatorState, vm: VmRecord, live: VmLive, now: number): Choice {
  const left = leftHost(vm, live)
  const lastResort = { lastResort: true }
  const staying = { ...vm, preferredHost: left ?? vm.preferredHost ?? live.endedAt?.host ?? null }
  if (left === null) return choose(state, staying, [], lastResort)
  if (countRelocation(state, vm, now) === null) return choose(state, staying, [], lastResort)
  const elsewhere = choose(state, vm, vm.lost === null ? [left] : [])
  return elsewhere.host === null ? choose(state, vm, [], lastResort) : elsewhere
}

/** What keeps the VM from being placed at all, whatever the host. */
function whyNotNow(state: CoordinatorState, vm: VmRecord, live: VmLive, now: number): string | null {
  if (vm.gaveUp !== null) return `it was given up: ${vm.gaveUp}; start it again: stellwerk vm start ${vm.name}`
  if (now < live.backoffUntil) {
    const last = live.endedAt === null ? '' : `, last on ${live.endedAt.host}: ${live.endedAt.why ?? 'no reason given'}`
    return `it failed ${vm.failures} times${last}; the next attempt is in ${Math.ceil(live.backoffUntil - now)} ms`
  }
  const unsettled = unsettledByRestore(state, now)
  if (unsettled !== null) {
    const until = unsettled.at === null ? 'until it is fenced' : `${Math.ceil(unsettled.at - now)} ms`
    return `the cluster was restored from a copy, and anything may run on ${unsettled.host}: it waits for its leases, ${until}`
  }
  const restored = whyNotRestored(state, externalsOfVm(state, vm))
  if (restored !== null) return `the cluster was restored from a copy: ${restored}`
  const exported = isExport(vm) ? null : exportedOf(state, vm)
  if (exported !== null) return `its disk ${exported.disk} is exported from ${exported.host ?? 'a host'}`
  return whyNotOpened(state, volumesOf(vm)) ?? awaited(state, vm, now)
}

export function orderFor(
  vm: VmRecord,
  placement: Pick<Placement, 'host' | 'hostEpoch' | 'incarnation' | 'epoch' | 'cpu' | 'adopts'>,
): VmOrder {
  return {
    vm: vm.name,
    epoch: placement.epoch,
    host: placement.host,
    hostEpoch: placement.hostEpoch,
    incarnation: placement.incarnation,
    spec: { ...(vm.spec as VmOrder['spec']), ...(placement.cpu === undefined ? {} : { cpu: placement.cpu }) },
    disks: vm.disks.map(({ disk, volume }) => ({ disk, volume })),
    ...(placement.adopts === undefined ? {} : { adopts: placement.adopts }),
  }
}

function workOnPlaced(state: CoordinatorState, vm: VmRecord, placement: Placement, now: number, out: StepOutput): void {
  const machine = reportOf(state, vm.name, placement)
  const { requestMs } = state.cluster.settings
  const host = state.hosts.get(placement.host)
  if (host === undefined || host.phase !== 'admitted' || host.epoch !== placement.hostEpoch) return
  // A stop that was ordered may arrive whatever is wanted by now: it is carried through, and then the VM is placed anew.
  if (isWanted(state, vm) && placement.phase !== 'stopping') {
    if (placement.phase !== 'starting' || machine !== null) return
    if (placement.adopts !== undefined) {
      const live = vmLive(state, vm.name)
      live.whyNot = whyNotOpened(state, volumesOf(vm))
      if (live.whyNot !== null) return
    }
    const key = `start/${vm.name}/${placement.epoch}`
    if (!shouldAsk(state, key, now, requestMs)) return
    out.effect({ kind: 'order', key, host: placement.host, message: 'vm.start', body: orderFor(vm, placement) })
    return
  }
  if (placement.phase !== 'stopping') out.put('vms', vm.name, { ...vm, placement: { ...placement, phase: 'stopping' } })
  const key = `stop/${vm.name}/${placement.epoch}`
  if (!shouldAsk(state, key, now, requestMs)) return
  const body = {
    vm: vm.name,
    epoch: placement.epoch,
    host: placement.host,
    incarnation: placement.incarnation,
    graceMs: vm.stopGraceMs,
  }
  out.effect({ kind: 'order', key, host: placement.host, message: 'vm.stop', body })
}

/** Machines reported as ended that no placement refers to any more: their host may stop reporting them. */
function forgetFinished(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const [host, live] of state.liveHosts) {
    if (live.session === null) continue
    for (const machine of live.machines.values()) {
      if (!isOver(machine.state)) continue
      const placement = state.vms.get(machine.vm)?.placement
      if (placement?.host === host && placement.epoch === machine.epoch) continue
      const key = `forget/${host}/${machine.vm}/${machine.epoch}`
      if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
      const body = { vm: machine.vm, epoch: machine.epoch, host, incarnation: live.session.incarnation }
      out.effect({ kind: 'order', key, host, message: 'vm.forget', body })
    }
  }
}

/**
 * Machines that live on a host though nothing on record has the VM there: what leads to one is closed at its source, and
 * yet none may stay. A report that crossed an order, or tells of a machine that is just going, is not acted on: one is
 * stopped only when it is still there after the time that an order takes.
 */
function stopStrays(state: CoordinatorState, now: number, out: StepOutput): void {
  const { requestMs } = state.cluster.settings
  for (const [name, live] of state.liveHosts) {
    const host = state.hosts.get(name)
    if (live.session === null || !live.machinesKnown || host?.phase !== 'admitted') continue
    for (const machine of live.machines.values()) {
      if (isOver(machine.state) || mayBeAt(state, name, machine)) continue
      const key = `stray/${name}/${machine.vm}/${machine.epoch}`
      if (!state.outstanding.has(key)) state.outstanding.set(key, { retryAt: now + requestMs })
      if (!shouldAsk(state, key, now, requestMs)) continue
      const incarnation = live.session.incarnation
      const body = { vm: machine.vm, epoch: machine.epoch, host: name, incarnation, graceMs: 0 }
      out.effect({ kind: 'order', key, host: name, message: 'vm.stop', body })
    }
  }
}

/** It is placed there at that epoch, or one end of a migration under way. */
function mayBeAt(state: CoordinatorState, host: string, machine: ReportedMachine): boolean {
  const vm = state.vms.get(machine.vm)
  if (vm?.placement?.host === host && vm.placement.epoch === machine.epoch) return true
  const migration = vm?.migration == null ? undefined : state.migrations.get(vm.migration)
  if (migration?.target.host === host && migration.epoch === machine.epoch) return true
  return migration?.source.host === host && machine.epoch < migration.epoch
}

// --- disks -----------------------------------------------------------------------------------------------------------------

/** True when all of them are there. */
function createDisks(state: CoordinatorState, vm: VmRecord, now: number, out: StepOutput): boolean {
  let all = true
  for (const disk of vm.disks) {
    if (disk.created) continue
    all = false
    const { volume, snapshot, sizeBytes } = disk
    const named = { volume, disk: disk.disk, name: disk.disk }
    const key = `disk-create/${vm.name}/${disk.disk}`
    if (snapshot === undefined) {
      askOwner(state, key, volume, 'volume.create-disk', { ...named, sizeBytes }, now, out)
    } else askOwner(state, key, volume, 'volume.clone-disk', { ...named, snapshot }, now, out)
    const live = vmLive(state, vm.name)
    const refused = live.diskRefused == null ? '' : `; the last attempt: ${live.diskRefused}`
    live.whyNot = `its disk ${disk.disk} is being made on volume ${disk.volume}${refused}`
  }
  return all
}

function deleteDisks(state: CoordinatorState, vm: VmRecord, now: number, out: StepOutput): void {
  if (vm.disks.length === 0) {
    out.remove('vms', vm.name)
    state.liveVms.delete(vm.name)
    return
  }
  for (const disk of vm.disks) {
    const body = { volume: disk.volume, disk: disk.disk }
    askOwner(state, `disk-delete/${vm.name}/${disk.disk}`, disk.volume, 'volume.delete-disk', body, now, out)
  }
}

function askOwner(
  state: CoordinatorState,
  key: string,
  volume: string,
  message: string,
  body: object,
  now: number,
  out: StepOutput,
): void {
  const owner = state.volumes.get(volume)?.owner
  if (!owner || !isServing(state, volume)) return
  if (!shouldAsk(state, key, now, state.cluster.settings.requestMs)) return
  state.orders += 1
  const order = state.cluster.term * VERSIONS_PER_TERM + state.orders
  out.effect({ kind: 'owner', key, host: owner.host, volume, message, body: { ...body, order } })
}

export function diskCreated(state: CoordinatorState, name: string, disk: string, out: StepOutput): void {
  const vm = state.vms.get(name)
  if (vm === undefined) return
  vmLive(state, name).diskRefused = null
  out.put('vms', name, { ...vm, disks: vm.disks.map(d => (d.disk === disk ? { ...d, created: true } : d)) })
}

export function diskDeleted(state: CoordinatorState, name: string, disk: string, out: StepOutput): void {
  const vm = state.vms.get(name)
  if (vm === undefined) return
  out.put('vms', name, { ...vm, disks: vm.disks.filter(d => d.disk !== disk) })
}

/**
 * By a host whose epoch is over: a word of it that was late attached the disk after all that it held had been given back. Or by one
 * that had handed it over to the instance that was lost. So what that one held, or should have, is given back once more.
 */
export function diskHeld(state: CoordinatorState, name: string, disk: string, out: StepOutput): void {
  const vm = state.vms.get(name)
  const lost = vm?.lost ?? vm?.formerlyLost ?? null
  const volume = vm?.disks.find(each => each.disk === disk)?.volume
  if (lost === null || volume === undefined) return
  const { host, hostEpoch } = lost
  const key = `${volume}/${host}/${hostEpoch}`
  if (!state.recoveries.has(key)) out.put('recoveries', key, { volume, host, hostEpoch })
}
