// A VM's ports on the host's virtual switch: attached exactly while its machine is the one that runs.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { NetworkPort } from '../hypervisor/hypervisor.ts'
import type { PortSpec } from '../network/virtual-switch.ts'

export class VmPorts {
  /** In the order of the VM's definition. */
  readonly ports: readonly NetworkPort[]

  constructor(makePort: (spec: PortSpec) => NetworkPort, { vm, epoch, spec }: VmOrder) {
    this.ports = (spec.nics ?? []).map(nic => makePort({ ...nic, placementEpoch: epoch, owner: vm }))
  }

  /** It runs here: what was sent to it elsewhere comes here from now on. */
  up(): void {
    for (const port of this.ports) port.attach()
  }

  /** It does not run here any more, or may soon run elsewhere. */
  down(): void {
    for (const port of this.ports) port.detach()
  }
}
