// The embedded hypervisor: guests are WebAssembly modules, each in a thread of the agent's process.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Capabilities, Hypervisor, Incoming, Machine, MachineSpec, NetworkPort } from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { PrecopyIncoming } from '../precopy/incoming.ts'
import { checkDevices, fillBootBlock, type GuestImage, loadGuest } from './guest-image.ts'
import { type WasmIdentity, WasmMachine } from './machine.ts'

export class WasmHypervisor implements Hypervisor {
  readonly #options: HypervisorOptions

  constructor(options: HypervisorOptions) {
    this.#options = options
  }

  /** Tries what guests need: memory that two threads share. */
  async probe(): Promise<Capabilities> {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
    if (memory.buffer instanceof SharedArrayBuffer) return { kind: 'wasm', available: true }
    return { kind: 'wasm', available: false, why: 'this runtime has no shared WebAssembly memory' }
  }

  async create(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Machine> {
    const identity = this.#identify(spec)
    const { machine } = await this.#prepare(spec, identity, disks, ports)
    const seed = this.#options.env.random.fork(`guest/${spec.vm}/${identity.instance}`).int(2 ** 32)
    try {
      fillBootBlock(machine.memory, spec, disks[0] ?? null, seed)
    } catch (error) {
      await machine.kill()
      throw error
    }
    return machine
  }

  async receive(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Incoming> {
    // The thread is started now, so that the pause does not wait for it.
    const { machine, image } = await this.#prepare(spec, this.#identify(spec), disks, ports)
    // The stream speaks of memory that begins as zeroes, so what instantiating wrote is taken away again.
    for (const { offset, length } of image.facts.data) machine.memory.fill(0, offset, offset + length)
    return new PrecopyIncoming(this.#options.env, {
      vm: spec.vm,
      memory: machine.memory,
      accept: registers => machine.restore(registers),
      run: async commit => {
        machine.arrive(commit.placementEpoch)
        return machine
      },
      discard: async () => {
        await machine.kill()
      },
    })
  }

  async #prepare(
    spec: MachineSpec,
    identity: WasmIdentity,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
  ): Promise<{ readonly machine: WasmMachine; readonly image: GuestImage }> {
    checkDevices(spec, disks.length, ports.length)
    const image = await loadGuest(this.#options.env, spec)
    const machine = new WasmMachine(this.#options, spec, identity, image, disks, ports)
    try {
      await machine.ready()
    } catch (error) {
      await machine.kill()
      throw error
    }
    return { machine, image }
  }

  #identify(spec: MachineSpec): WasmIdentity {
    return spec.identity ?? { epoch: 0, instance: this.#options.env.random.id() }
  }
}
