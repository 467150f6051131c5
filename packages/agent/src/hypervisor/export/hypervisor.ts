// Disks served to tools by NBD, as machines: attached, leased, frozen, fenced and killed as guests are. An export cannot be
// migrated: its clients hold a socket of this host.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { checkNameable, exportDisk } from '../../volume/disk-export.ts'
import type { Capabilities, Hypervisor, Incoming, Machine, MachineSpec } from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { ExportMachine, notMigratable } from './machine.ts'

/** The cluster's other ends may be anywhere; tools come from this machine only. */
const LOOPBACK = '127.0.0.1'

export class ExportHypervisor implements Hypervisor {
  readonly #options: HypervisorOptions
  readonly #served = new Map<string, ExportMachine>()

  constructor(options: HypervisorOptions) {
    this.#options = options
  }

  async probe(): Promise<Capabilities> {
    return { kind: 'export', available: true }
  }

  /** Listens at once, so that a taken address is told; clients wait until it is started. */
  async create(spec: MachineSpec, disks: readonly BlockDevice[]): Promise<Machine> {
    const [disk] = disks
    if (disk === undefined || disks.length !== 1) {
      throw new StellwerkError('bad-machine', `an export is of one disk, not ${disks.length}`, { where: spec.vm })
    }
    const address = addressOf(spec)
    checkNameable(address)
    const identity = spec.identity ?? { epoch: 0, instance: this.#options.env.random.id() }
    const machine = new ExportMachine(this.#options, spec, identity, disk, () => {
      if (this.#served.get(spec.vm) === machine) this.#served.delete(spec.vm)
    })
    const served = await exportDisk(this.#options.env, {
      address,
      name: String(spec.parameters['name'] ?? spec.guest),
      description: spec.guest,
      device: machine.device,
      readOnly: spec.parameters['readOnly'] === true,
    })
    machine.served(served)
    this.#served.set(spec.vm, machine)
    return machine
  }

  receive(spec: MachineSpec): Promise<Incoming> {
    return Promise.reject(notMigratable(spec.vm))
  }

  where(vm: string): { address: Address | null; connections: number } {
    const machine = this.#served.get(vm)
    return { address: machine?.address ?? null, connections: machine?.connections ?? 0 }
  }
}

function addressOf(spec: MachineSpec): Address {
  const { socket, port } = spec.parameters
  if (typeof socket === 'string') return { network: 'local', host: socket, port: 0 }
  return { network: 'cluster', host: LOOPBACK, port: typeof port === 'number' ? port : 0 }
}
