// The hypervisor of the simulation: machines whose guests are a few deterministic lines with real memory, a real log on
// their disk, and real live migration.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { LOG_START } from '../../guests/ledger-format.ts'
import type { Capabilities, Hypervisor, Incoming, Machine, MachineSpec, NetworkPort } from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { corrupt } from '../precopy/format.ts'
import { PrecopyIncoming } from '../precopy/incoming.ts'
import { PAGE_BYTES } from '../precopy/state-checksum.ts'
import { type ModelIdentity, ModelMachine } from './machine.ts'
import { type ModelParameters, modelParameters } from './parameters.ts'
import { MAX_UNIT_BYTES, Registers } from './registers.ts'

export class ModelHypervisor implements Hypervisor {
  readonly #env: Environment
  readonly #options: HypervisorOptions

  constructor(options: HypervisorOptions) {
    this.#env = options.env
    this.#options = options
  }

  async probe(): Promise<Capabilities> {
    return { kind: 'model', available: true }
  }

  async create(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Machine> {
    const parameters = modelParameters(spec)
    checkDisks(spec, disks, parameters)
    const identity = this.#identify(spec)
    const memory = Buffer.alloc(parameters.pages * PAGE_BYTES)
    new Registers(memory).random = 1 + this.#env.random.fork(`guest/${spec.vm}/${identity.instance}`).int(2 ** 32 - 2)
    return new ModelMachine(this.#options, spec, identity, parameters, disks, ports, memory, [])
  }

  async receive(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Incoming> {
    const parameters = modelParameters(spec)
    checkDisks(spec, disks, parameters)
    const { instance } = this.#identify(spec)
    const memory = Buffer.alloc(parameters.pages * PAGE_BYTES)
    let input: readonly string[] = []
    return new PrecopyIncoming(this.#env, {
      vm: spec.vm,
      memory,
      accept: registers => {
        input = decodeInput(registers)
      },
      run: async commit => {
        const identity = { epoch: commit.placementEpoch, instance }
        const machine = new ModelMachine(this.#options, spec, identity, parameters, disks, ports, memory, input)
        machine.start()
        return machine
      },
      discard: async () => undefined,
    })
  }

  #identify(spec: MachineSpec): ModelIdentity {
    return spec.identity ?? { epoch: 0, instance: this.#env.random.id() }
  }
}

function checkDisks(spec: MachineSpec, disks: readonly BlockDevice[], { scratchBytes }: ModelParameters): void {
  const disk = disks[0]
  if (disk === undefined) return
  const smallest = LOG_START + scratchBytes
  if (disk.size < smallest || disk.limits.minimum > MAX_UNIT_BYTES) {
    throw new StellwerkError('bad-disk', `a model guest cannot use a disk of ${disk.size} bytes`, {
      where: `vm ${spec.vm}`,
      hint: `give it at least ${smallest} bytes, in blocks of at most ${MAX_UNIT_BYTES}`,
    })
  }
}

function decodeInput(registers: Uint8Array): readonly string[] {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(registers).toString('utf8'))
  } catch (error) {
    throw corrupt(`its registers are no JSON (${errorMessage(error)})`)
  }
  if (typeof value !== 'object' || value === null || !('input' in value) || !Array.isArray(value.input)) {
    throw corrupt('its registers are not those of a model machine')
  }
  return value.input.map(String)
}
