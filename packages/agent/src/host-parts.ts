// What the host's actor is wired to.

import type { Beat } from '@stellwerk/protocol/messages/cluster.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import type { AgentConfig } from './agent-config.ts'
import type { HostConsoles } from './console/host-consoles.ts'
import type { OpenLuns } from './hba/open-luns.ts'
import type { StorageLinks } from './hba/storage-links.ts'
import type { ExportHypervisor } from './hypervisor/export/hypervisor.ts'
import type { LeftBehind } from './hypervisor/hypervisor.ts'
import type { RightToRun } from './lease/right-to-run.ts'
import type { Forwards } from './network/forwards.ts'
import type { VirtualSwitch } from './network/virtual-switch.ts'
import type { Peers } from './peers.ts'
import type { Redirects } from './redirect/redirects.ts'
import type { RunGate } from './vm/run-gate.ts'
import type { VmParts } from './vm/vm-parts.ts'
import type { HostVolumes } from './volume/host-volumes.ts'

export interface HostParts {
  readonly env: Environment
  readonly config: AgentConfig
  readonly system: ActorSystem
  readonly right: RightToRun
  readonly gate: RunGate
  readonly links: () => StorageLinks
  readonly peers: Peers
  readonly volumes: () => HostVolumes
  readonly redirects: () => Redirects
  readonly luns: () => OpenLuns
  readonly network: () => VirtualSwitch
  readonly forwards: () => Pick<Forwards, 'follow' | 'reports'>
  readonly vmParts: () => VmParts
  readonly exports: ExportHypervisor
  readonly consoles: HostConsoles
  /** Machines that earlier agents have left. */
  readonly left: LeftBehind
  /** Whether QEMU runs machines here, and with which processor; undefined: not set up, or not known yet. */
  readonly qemu: () => Beat['qemu']
}
