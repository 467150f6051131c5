// What a VM's actor is given by its host.

import type { ReportedMachine, VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { Address, ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import type { HostConsoles } from '../console/host-consoles.ts'
import type { GuestModules } from '../guests/guest-modules.ts'
import type { Hypervisor, LeftBehind, NetworkPort } from '../hypervisor/hypervisor.ts'
import type { PortSpec } from '../network/virtual-switch.ts'
import type { DiskOpener } from '../volume/disk-set.ts'
import type { RunGate } from './run-gate.ts'

export interface VmParts {
  readonly env: Environment
  readonly host: string
  readonly incarnation: number
  readonly settings: () => Settings
  readonly gate: RunGate
  readonly disks: DiskOpener
  readonly guests: Pick<GuestModules, 'need'>
  /** Machines that earlier agents have left. */
  readonly left: LeftBehind
  /** A port of the host's virtual switch. */
  readonly port: (spec: PortSpec) => NetworkPort
  readonly hypervisor: (kind: VmOrder['spec']['hypervisor']) => Hypervisor
  /** The host's board of machines, which its beats report. */
  readonly report: (machine: ReportedMachine) => void
  /** Nothing of the machine is left, and it need not be reported. */
  readonly gone: (vm: string, epoch: number) => void
  readonly consoles: Pick<HostConsoles, 'line' | 'prompt' | 'output'>
  readonly streams: MigrationStreams
  readonly ask: (from: string, to: string, kind: string, body: unknown, deadlineMs: number) => Promise<unknown>
  /** Says, until it is taken, that this side's part of a migration is over; also when the VM's actor is gone. */
  readonly reportDone: (done: {
    migration: string
    vm: string
    statistics: { readonly [name: string]: number }
  }) => void
}

/** The bulk links of migrations. The target dials, so that pages flow from the dialled side to the dialling one. */
export interface MigrationStreams {
  /** At the source: called when the target of this migration has linked. */
  expect(migration: string, linked: (stream: ByteStream) => void): void
  forget(migration: string): void
  /** At the target. */
  open(migration: string, source: Address): Promise<ByteStream>
}
