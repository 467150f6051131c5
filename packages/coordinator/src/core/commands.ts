// What operators ask for. Each is checked against what is known before anything changes: a refusal changes nothing.

import { MAX_DISKS } from '@stellwerk/protocol/messages/cluster.ts'
import { inMiB } from '@stellwerk/runtime/units.ts'
import { whyNotCopied } from './cluster-copy.ts'
import { accept, badName, type CommandResult, refuse } from './command-result.ts'
import { beginExport, endExport, exportedOf, exportRefusal, isExport } from './exports.ts'
import { drainHost, readmitHost, removeHost, resumeHost } from './host-commands.ts'
import { hostLive, isUsable } from './hosts.ts'
import { type AskedForward, addForward, removeForward, withoutForwards } from './lasting-forwards.ts'
import { type LegCommand, obeyLegCommand } from './leg-commands.ts'
import { signOfLife, takeAttestation } from './membership.ts'
import { abortMigration, requestMigration } from './migration.ts'
import type { MigrationLimits } from './migration-record.ts'
import { type AskedNic, nicsFor } from './nics.ts'
import type { StepOutput } from './output.ts'
import { giveVolume } from './ownership.ts'
import { obeyPathCommand, type PathCommand } from './path-commands.ts'
import { CLEAN_SLATE, defaultPolicy, misfitOf, type RestartPolicy, withoutLost } from './restart-policy.ts'
import type { CoordinatorState, VmRecord, VmSpec } from './state.ts'
import { resetVm } from './vm-reset.ts'
import { createVolume, type VolumeCreate } from './volume-creation.ts'
import { deleteVolume } from './volume-deletion.ts'

export type Command =
  | {
      readonly kind: 'vm-create'
      readonly name: string
      readonly spec: VmSpec
      readonly nics?: readonly AskedNic[]
      readonly disks: readonly {
        readonly volume: string
        readonly sizeBytes: number
        /** It begins as this snapshot is. */
        readonly snapshot?: string
      }[]
      readonly start: boolean
      readonly priority: number
      readonly host: string | null
      /** What it does not name is as the settings have it. */
      readonly restart?: Partial<RestartPolicy>
    }
  | { readonly kind: 'vm-start'; readonly name: string; readonly host: string | null }
  /** Its guest has `graceMs` to shut down by itself; null or absent: as the settings have it. */
  | { readonly kind: 'vm-stop'; readonly name: string; readonly graceMs?: number | null }
  | { readonly kind: 'vm-delete'; readonly name: string }
  | {
      readonly kind: 'vm-migrate'
      readonly name: string
      readonly to: string | null
      readonly id: string
      readonly limits?: MigrationLimits
    }
  | { readonly kind: 'vm-cancel'; readonly name: string }
  /** Its guest is to begin anew, where it is. */
  | { readonly kind: 'vm-reset'; readonly name: string }
  | { readonly kind: 'vm-forward'; readonly name: string; readonly asked: AskedForward }
  /** `forward`: `[ADDRESS:]PORT`. */
  | { readonly kind: 'vm-unforward'; readonly name: string; readonly forward: string }
  | ({ readonly kind: 'volume-create' } & VolumeCreate)
  | { readonly kind: 'volume-own'; readonly name: string; readonly host: string }
  /** With its LUNs. `force`: and with what is on it. */
  | { readonly kind: 'volume-delete'; readonly name: string; readonly force: boolean }
  | LegCommand
  | {
      readonly kind: 'disk-export'
      readonly id: string
      readonly volume: string
      readonly disk: string
      readonly readOnly: boolean
      /** Null: wherever is best. */
      readonly host: string | null
      /** A unix socket of the host; null: a port of its loopback. */
      readonly socket: string | null
      /** 0: any. */
      readonly port: number
    }
  /** Its owner has given it another size. */
  | { readonly kind: 'disk-resized'; readonly volume: string; readonly disk: string; readonly sizeBytes: number }
  | {
      /** Its owner has made one of a disk that the VM runs with. */
      readonly kind: 'disk-snapshot'
      readonly vm: string
      readonly volume: string
      readonly disk: string
      readonly snapshot: string
      readonly consistency: string
      /** Why it is no better; null: it is as good as can be. */
      readonly why: string | null
    }
  | { readonly kind: 'disk-unexport'; readonly volume: string; readonly disk: string }
  | { readonly kind: 'host-confirm-dead'; readonly name: string }
  | { readonly kind: 'host-remove'; readonly name: string }
  /** A host that was removed may come back under its name. */
  | { readonly kind: 'host-readmit'; readonly name: string }
  /** Its VMs are moved to others, and it gets no more until it is resumed. */
  | { readonly kind: 'host-drain'; readonly name: string; readonly why: string }
  /** Ends its quarantine, and its drain. */
  | { readonly kind: 'host-resume'; readonly name: string }
  | PathCommand
  /** Stops every machine in order, and keeps what is wanted: the next start of the coordinator brings it back. */
  | { readonly kind: 'cluster-halt' }

/** What the disks made with a VM are called. */
export const vmDiskName = (vm: string, index: number): string => `${vm}-${index}`

export function obey(state: CoordinatorState, command: Command, now: number, out: StepOutput): CommandResult {
  switch (command.kind) {
    case 'vm-create':
      return createVm(state, command, out)
    case 'vm-start':
      return withVm(state, command.name, vm => startVm(state, vm, command.host, out))
    case 'vm-stop':
      return withVm(state, command.name, vm => {
        if (vm.desired === 'stopped' && vm.placement === null) {
          return refuse('not-running', `VM "${vm.name}" is already stopped`, `start it: stellwerk vm start ${vm.name}`)
        }
        const stopGraceMs = command.graceMs ?? state.cluster.settings.stopTimeoutMs
        out.put('vms', vm.name, { ...withoutLost(vm), desired: 'stopped', gaveUp: null, stopGraceMs })
        // One under way may have more time than it has now.
        state.outstanding.delete(`stop/${vm.name}/${vm.placement?.epoch}`)
        return accept({ vm: vm.name })
      })
    case 'vm-delete':
      return withVm(state, command.name, vm => {
        const exported = exportedOf(state, vm)
        if (exported !== null) return { ok: false, refusal: exportRefusal(vm, exported) }
        out.put('vms', vm.name, { ...withoutForwards(vm), desired: 'deleted', stopGraceMs: 0 })
        state.outstanding.delete(`stop/${vm.name}/${vm.placement?.epoch}`)
        return accept({ vm: vm.name })
      })
    case 'vm-migrate': {
      const result = requestMigration(state, command.id, command.name, command.to, now, out, command.limits)
      if ('code' in result) return { ok: false, refusal: result }
      return accept({ migration: result.id, vm: result.vm, from: result.source.host, to: result.target.host })
    }
    case 'vm-cancel':
      return withVm(state, command.name, vm => {
        if (vm.migration === null)
          return refuse('not-migrating', `VM "${vm.name}" is not being migrated`, `see: stellwerk vm show ${vm.name}`)
        if (!abortMigration(state, vm.migration, 'an operator cancelled it', now, out)) {
          const message = `the migration of VM "${vm.name}" is already committed`
          return refuse('too-late', message, 'migrate it back when it is done')
        }
        return accept({ vm: vm.name })
      })
    case 'vm-reset':
      return withVm(state, command.name, vm => resetVm(vm, out))
    case 'vm-forward':
      return withVm(state, command.name, vm => addForward(state, vm, command.asked, out))
    case 'vm-unforward':
      return withVm(state, command.name, vm => removeForward(vm, command.forward, out))
    case 'volume-create':
      return createVolume(state, command, now, out)
    case 'volume-delete':
      return deleteVolume(state, command.name, command.force, out)
    case 'volume-own':
      return ownVolume(state, command.name, command.host, out)
    case 'volume-mirror':
    case 'volume-unmirror':
    case 'volume-resync':
    case 'volume-scrub':
    case 'volume-force-leg':
      return obeyLegCommand(state, command, out)
    case 'disk-export':
      return beginExport(state, command, out)
    case 'disk-resized':
      diskResized(state, command, out)
      return accept({ disk: command.disk })
    case 'disk-snapshot':
      noteSnapshot(command, out)
      return accept({ snapshot: command.snapshot })
    case 'disk-unexport':
      return endExport(state, command.volume, command.disk, out)
    case 'host-confirm-dead':
      return confirmDead(state, command.name, now, out)
    case 'cluster-halt':
      haltAll(state, out)
      return accept({ halting: [...state.vms.values()].filter(vm => vm.placement !== null).map(vm => vm.name) })
    case 'host-remove':
      return removeHost(state, command.name, out)
    case 'host-readmit':
      return readmitHost(state, command.name, out)
    case 'host-drain':
      return drainHost(state, command.name, command.why, now, out)
    case 'host-resume':
      return resumeHost(state, command.name, out)
    case 'path-disable':
    case 'path-enable':
    case 'path-policy':
      return obeyPathCommand(state, command, out)
  }
}

function diskResized(
  state: CoordinatorState,
  { volume, disk, sizeBytes }: Extract<Command, { kind: 'disk-resized' }>,
  out: StepOutput,
): void {
  for (const vm of [...state.vms.values()]) {
    if (isExport(vm) || !vm.disks.some(known => known.volume === volume && known.disk === disk)) continue
    const disks = vm.disks.map(known =>
      known.volume === volume && known.disk === disk ? { ...known, sizeBytes } : known,
    )
    out.put('vms', vm.name, { ...vm, disks })
  }
}

/** Made of a disk that a VM runs with: how good it is stands among the decisions, the snapshot itself is its owner's. */
function noteSnapshot(
  { vm, volume, disk, snapshot, consistency, why }: Extract<Command, { kind: 'disk-snapshot' }>,
  out: StepOutput,
): void {
  out.decide({
    kind: 'snapshot',
    subject: vm,
    saw: { volume, disk, snapshot },
    chose: `${consistency}: ${volume}/${snapshot}`,
    why: why ?? 'the file systems of its guest stood still while it was made',
  })
}

/** What is wanted stays wanted: the next start of the coordinator brings it back. */
function haltAll(state: CoordinatorState, out: StepOutput): void {
  state.halted = true
  const stopGraceMs = state.cluster.settings.stopTimeoutMs
  for (const vm of [...state.vms.values()]) {
    if (vm.desired === 'running' && !isExport(vm)) out.put('vms', vm.name, { ...vm, stopGraceMs })
  }
}

function withVm(state: CoordinatorState, name: string, f: (vm: VmRecord) => CommandResult): CommandResult {
  const vm = state.vms.get(name)
  if (vm === undefined || isExport(vm)) {
    return refuse('unknown-vm', `there is no VM "${name}"`, 'see: stellwerk vm list')
  }
  if (vm.desired === 'deleted') return refuse('being-deleted', `VM "${name}" is being deleted`, 'wait until it is gone')
  return f(vm)
}

/** Why no host at all runs QEMU's machines, or null. */
function whyNoQemu(state: CoordinatorState): string | null {
  const present = [...state.hosts.values()].filter(host => !host.removed)
  const hosts = present.map(({ name }) => ({ name, why: hostLive(state, name).whyNoQemu }))
  if (hosts.some(({ why }) => why === null)) return null
  const [first] = hosts
  return first === undefined ? 'there is none' : `${first.name}: ${first.why}`
}

/** What guests address: neither the wasm machine's ring nor the model's registers say which disk. */
const EMBEDDED_DISKS_MAX = 1

function createVm(
  state: CoordinatorState,
  command: Extract<Command, { kind: 'vm-create' }>,
  out: StepOutput,
): CommandResult {
  const bad = badName('VM', command.name)
  if (bad !== null) return bad
  if (state.vms.has(command.name))
    return refuse('duplicate-name', `there is already a VM "${command.name}"`, 'choose another name')
  const largest = Math.max(0, ...[...state.hosts.values()].filter(host => !host.removed).map(host => host.memoryBytes))
  if (command.spec.memoryBytes > largest) {
    return refuse(
      'too-large',
      `VM "${command.name}" needs ${inMiB(command.spec.memoryBytes)} of memory, the largest host has ${inMiB(largest)}`,
      'give it less memory',
    )
  }
  const nics = nicsFor(state, command.name, command.nics ?? [])
  if ('code' in nics) return { ok: false, refusal: nics }
  const noQemu = command.spec.hypervisor === 'qemu' ? whyNoQemu(state) : null
  if (noQemu !== null)
    return refuse('no-hypervisor', `no host runs QEMU machines: ${noQemu}`, 'see: stellwerk host show')
  const most = command.spec.hypervisor === 'qemu' ? MAX_DISKS : EMBEDDED_DISKS_MAX
  if (command.disks.length > most) {
    const has = `VM "${command.name}" has ${command.disks.length} disks, more than its machine takes`
    return refuse('bad-machine', has, most === 1 ? 'give it one' : `give it at most ${most}`)
  }
  const tooLong = command.disks.some((_, i) => badName('disk', vmDiskName(command.name, i)) !== null)
  if (tooLong) {
    return refuse('bad-name', `"${command.name}" is too long a name for a VM with a disk`, 'use at most 61 characters')
  }
  for (const disk of command.disks) {
    const volume = state.volumes.get(disk.volume)
    if (volume === undefined || volume.phase === 'deleting')
      return refuse('unknown-volume', `there is no volume "${disk.volume}"`, 'see: stellwerk volume list')
    if (disk.sizeBytes > volume.sizeBytes) {
      return refuse(
        'disk-too-large',
        `a disk of ${disk.sizeBytes} bytes is larger than volume "${disk.volume}" (${volume.sizeBytes})`,
        'give it less',
      )
    }
    if (disk.sizeBytes <= 0 || disk.sizeBytes % 4096 !== 0) {
      return refuse('bad-size', `${disk.sizeBytes} bytes is no size for a disk`, 'use a positive multiple of 4096')
    }
  }
  if (command.host !== null && !isMember(state, command.host)) {
    return refuse('unknown-host', `there is no host "${command.host}"`, 'see: stellwerk host list')
  }
  const full = whyNotCopied(state)
  if (full !== null) {
    return refuse(
      'cluster-copy-full',
      `the copy of all definitions, from which a lost coordinator is restored, fits volume "${full.volume}" no more: ${full.why}`,
      'delete VMs, or give them less user data; see: stellwerk volume list',
    )
  }
  const restart = { ...defaultPolicy(state.cluster.settings), ...command.restart }
  const misfit = misfitOf(restart)
  if (misfit !== null) return refuse('bad-policy', misfit, 'see: stellwerk vm create --help')
  out.put('vms', command.name, {
    name: command.name,
    spec: nics.length === 0 ? command.spec : { ...command.spec, nics },
    disks: command.disks.map((disk, i) => ({ ...disk, disk: vmDiskName(command.name, i), created: false })),
    desired: command.start ? 'running' : 'stopped',
    priority: command.priority,
    // Above every placement epoch that an earlier VM of this name can have had: each came with a decision.
    epoch: state.decisionSeq,
    placement: null,
    migration: null,
    lost: null,
    preferredHost: command.host,
    restart,
    ...CLEAN_SLATE,
    stopGraceMs: 0,
  } satisfies VmRecord)
  return accept({ vm: command.name })
}

function isMember(state: CoordinatorState, host: string): boolean {
  return state.hosts.get(host)?.removed === false
}

function startVm(state: CoordinatorState, vm: VmRecord, host: string | null, out: StepOutput): CommandResult {
  if (host !== null && !isMember(state, host))
    return refuse('unknown-host', `there is no host "${host}"`, 'see: stellwerk host list')
  if (vm.desired === 'running' && vm.gaveUp === null)
    return refuse(
      'already-running',
      `VM "${vm.name}" is already running or being started`,
      `see: stellwerk vm show ${vm.name}`,
    )
  const exported = exportedOf(state, vm)
  if (exported !== null) return { ok: false, refusal: exportRefusal(vm, exported) }
  out.put('vms', vm.name, { ...vm, ...CLEAN_SLATE, desired: 'running', preferredHost: host ?? vm.preferredHost })
  state.liveVms.delete(vm.name)
  return accept({ vm: vm.name })
}

function ownVolume(state: CoordinatorState, name: string, to: string, out: StepOutput): CommandResult {
  const volume = state.volumes.get(name)
  if (volume === undefined || volume.phase === 'deleting')
    return refuse('unknown-volume', `there is no volume "${name}"`, 'see: stellwerk volume list')
  const host = state.hosts.get(to)
  if (host === undefined || host.removed)
    return refuse('unknown-host', `there is no host "${to}"`, 'see: stellwerk host list')
  if (!isUsable(state, host)) {
    const is = host.phase === 'admitted' ? hostLive(state, to).verdict : host.phase
    return refuse('host-unfit', `host "${to}" is ${is}`, 'name a host that is up')
  }
  if (volume.owner?.host === to)
    return refuse('same-host', `host "${to}" already owns volume "${name}"`, 'name another host')
  const epoch = giveVolume(state, volume, host, 'an operator asked for it', out)
  return accept({ volume: name, owner: to, epoch })
}

/** The operator vouches that the host is off: saves the wait, never the fence. */
function confirmDead(state: CoordinatorState, name: string, now: number, out: StepOutput): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined) return refuse('unknown-host', `there is no host "${name}"`, 'see: stellwerk host list')
  const sign = signOfLife(state, name, now)
  if (sign !== null) return refuse('host-alive', `host "${name}" is alive: ${sign}`, 'power it off first')
  const incarnation = hostLive(state, name).incarnation ?? Number.MAX_SAFE_INTEGER
  // Also of a host that runs nothing: whether a leg may be forced depends on it.
  takeAttestation(state, host, { incarnation, survivors: [], by: 'an operator' }, now, out)
  return accept({ host: name })
}
