// Exports: disks served to tools. An export is kept as a record among the VMs, because all that holds for a VM's instance
// holds for it: one placement with an epoch, a lease, a fence, a death that is waited out. It differs in its end: it is never
// started again elsewhere, since its clients hold a socket of its host, and its disks are not its own.

import { type CommandResult, refuse } from './command-result.ts'
import { volumesOf } from './hosts.ts'
import type { Refusal } from './migration.ts'
import type { StepOutput } from './output.ts'
import { whyNot } from './placement.ts'
import { CLEAN_SLATE, defaultPolicy } from './restart-policy.ts'
import type { CoordinatorState, VmRecord } from './state.ts'

/** Exports at a time, in the whole cluster. */
export const MAX_EXPORTS = 64

export interface ExportCommand {
  readonly id: string
  readonly volume: string
  readonly disk: string
  readonly readOnly: boolean
  readonly host: string | null
  readonly socket: string | null
  readonly port: number
}

export interface Exported {
  readonly volume: string
  readonly disk: string
  readonly host: string | null
}

export function isExport(vm: Pick<VmRecord, 'spec'>): boolean {
  return vm.spec.hypervisor === 'export'
}

export function exportsOf(state: CoordinatorState): VmRecord[] {
  return [...state.vms.values()].filter(isExport).sort((a, b) => (a.name < b.name ? -1 : 1))
}

export function exportOf(state: CoordinatorState, volume: string, disk: string): VmRecord | null {
  return exportsOf(state).find(each => uses(each, volume, disk)) ?? null
}

/** What is exported is told by this; a snapshot's would say more than volume and disk. */
export function sourceOf(volume: string, disk: string): string {
  return `${volume}/${disk}`
}

/** The first disk of the VM that an export holds, or null. */
export function exportedOf(state: CoordinatorState, vm: VmRecord): Exported | null {
  for (const { volume, disk } of vm.disks) {
    const holder = exportOf(state, volume, disk)
    if (holder !== null) return { volume, disk, host: holder.placement?.host ?? null }
  }
  return null
}

export function exportRefusal(vm: VmRecord, { volume, disk, host }: Exported): Refusal {
  const from = host === null ? '' : ` from host "${host}"`
  return {
    code: 'disk-exported',
    message: `disk "${disk}" of VM "${vm.name}" is exported${from}`,
    hint: `end that first: stellwerk disk unexport ${volume} ${disk}`,
  }
}

function uses(vm: VmRecord, volume: string, disk: string): boolean {
  return vm.disks.some(known => known.volume === volume && known.disk === disk)
}

function ownerOf(state: CoordinatorState, volume: string, disk: string): VmRecord | null {
  return [...state.vms.values()].find(vm => !isExport(vm) && uses(vm, volume, disk)) ?? null
}

export function beginExport(state: CoordinatorState, command: ExportCommand, out: StepOutput): CommandResult {
  const { volume, disk, id, host, socket, port, readOnly } = command
  if (!state.volumes.has(volume)) {
    return refuse('unknown-volume', `there is no volume "${volume}"`, 'see: stellwerk volume list')
  }
  const holder = exportOf(state, volume, disk)
  if (holder !== null) {
    return refuse(
      'already-exported',
      `disk "${disk}" is exported already, from host "${holder.placement?.host ?? 'none yet'}"`,
      `end that first: stellwerk disk unexport ${volume} ${disk}`,
    )
  }
  const vm = ownerOf(state, volume, disk)
  if (vm !== null && (vm.desired !== 'stopped' || vm.placement !== null)) {
    const is = vm.desired === 'deleted' ? 'is being deleted' : 'has it, and is not stopped'
    return refuse(
      'disk-in-use',
      `disk "${disk}": VM "${vm.name}" ${is}`,
      `stop the VM: stellwerk vm stop ${vm.name}; or export a snapshot: stellwerk disk snapshot ${volume} ${disk} NAME`,
    )
  }
  if (exportsOf(state).length >= MAX_EXPORTS) {
    return refuse('too-many-exports', `${MAX_EXPORTS} disks are exported already`, 'end one of those')
  }
  const record: VmRecord = {
    name: `export-${id}`,
    spec: {
      hypervisor: 'export',
      guest: sourceOf(volume, disk),
      memoryBytes: 0,
      parameters: { name: disk, readOnly, port, ...(socket === null ? {} : { socket }) },
    },
    disks: [{ disk, volume, sizeBytes: 0, created: true }],
    desired: 'running',
    priority: 0,
    // Above every placement epoch that the disk was attached with: each came with a decision, or is its VM's.
    epoch: Math.max(state.decisionSeq, vm?.epoch ?? 0),
    placement: null,
    migration: null,
    lost: null,
    preferredHost: host,
    restart: defaultPolicy(state.cluster.settings),
    ...CLEAN_SLATE,
    stopGraceMs: 0,
  }
  const unfit = host === null ? null : whyNoExportAt(state, record, host)
  if (unfit !== null) return unfit
  out.put('vms', record.name, record)
  return { ok: true, body: { export: record.name } }
}

function whyNoExportAt(state: CoordinatorState, record: VmRecord, name: string): CommandResult | null {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) {
    return refuse('unknown-host', `there is no host "${name}"`, 'see: stellwerk host list')
  }
  const why = whyNot(state, record, host)
  if (why === null) return null
  const where = volumesOf(record).join(', ')
  return refuse('host-unfit', `host "${name}" cannot export a disk of ${where}: ${why}`, 'name another host')
}

export function endExport(state: CoordinatorState, volume: string, disk: string, out: StepOutput): CommandResult {
  const holder = exportOf(state, volume, disk)
  if (holder === null) {
    const message = `disk "${disk}" of volume "${volume}" is not exported`
    return refuse('unknown-export', message, `see: stellwerk disk list ${volume}`)
  }
  out.put('vms', holder.name, { ...holder, desired: 'deleted' })
  return { ok: true, body: { export: holder.name } }
}

/** Nothing of it is left anywhere. */
export function exportEnded(state: CoordinatorState, record: VmRecord, why: string, out: StepOutput): void {
  out.remove('vms', record.name)
  state.liveVms.delete(record.name)
  for (const { volume, disk } of record.disks) {
    const vm = ownerOf(state, volume, disk)
    // Its VM attaches above whatever the disk was attached with.
    if (vm !== null && vm.epoch < record.epoch) out.put('vms', vm.name, { ...vm, epoch: record.epoch })
  }
  out.decide({
    kind: 'export-ended',
    subject: record.name,
    saw: { source: record.spec.guest, host: record.placement?.host ?? null, epoch: record.epoch },
    chose: 'give its disk back',
    why,
  })
}
