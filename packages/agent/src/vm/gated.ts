// A VM's machine is made known to the guardian; whether it may run is looked at again whenever that may have changed.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { LeftMachineFacts } from '../hypervisor/hypervisor.ts'
import type { DiskSet } from '../volume/disk-set.ts'
import type { Evidence } from './evidence.ts'
import type { RunGate } from './run-gate.ts'

/** `left`: the machine is one that was taken over. */
export function gateIn(
  gate: RunGate,
  { vm, epoch }: VmOrder,
  disks: Pick<DiskSet, 'storages'>,
  evidence: Evidence,
  left: LeftMachineFacts | null,
  changed: () => void,
): void {
  const storages = (): readonly string[] | null => disks.storages()
  evidence.restsOn(storages())
  gate.register(vm, epoch, storages, { changed, restsOn: now => evidence.restsOn(now) }, left?.until)
}
