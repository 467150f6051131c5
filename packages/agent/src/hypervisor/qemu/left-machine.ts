// A machine that a dead agent has left: its QEMU goes on and looks for its disks. They are served to it at once, held back by
// errors until it is taken over, so that it has found them by then.

import type { BlockDevice, Caps, Limits } from '@stellwerk/block/device.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Kept, Survivor } from '../../guardian/pipe.ts'
import { LateDevice } from '../../volume/late-device.ts'
import type { LeftMachineFacts, MachineSpec, NetworkPort } from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { GuestDisk } from './guest-disk.ts'
import { QemuMachine } from './machine.ts'
import { LeftQemu, type StartedProgram } from './qemu-process.ts'

/** Of what is written down: an agent of another version that knows another one ends the machine instead. */
const FORMAT = 1

/** What is written down of a machine at its start. */
interface KeptMachine {
  readonly format: typeof FORMAT
  readonly instance: string
  readonly directory: string
  readonly nics: number
  /** It has a port for an agent in its guest; absent: it was started by a version that gave it none. */
  readonly agentPort?: true
  readonly disks: readonly { readonly sizeBytes: number; readonly limits: Limits; readonly caps: Caps }[]
}

export function keptOf(instance: string, directory: string, disks: readonly BlockDevice[], nics: number): Kept {
  const facts = disks.map(({ size, limits, caps }) => ({ sizeBytes: size, limits: { ...limits }, caps: { ...caps } }))
  const kept: KeptMachine = { format: FORMAT, instance, directory, nics, agentPort: true, disks: facts }
  return kept as unknown as Kept
}

export function isKnownFormat({ keep }: Survivor): boolean {
  return keep['format'] === FORMAT
}

export class LeftMachine {
  readonly facts: LeftMachineFacts
  /** Of its own, among the agent's files. */
  readonly directory: string
  readonly #env: Environment
  readonly #nics: number
  readonly #late: readonly LateDevice[]
  readonly #disks: readonly GuestDisk[]
  readonly #qemu: LeftQemu
  #machine: QemuMachine | null = null

  constructor(env: Environment, { vm, epoch, until, keep }: Survivor, process: StartedProgram) {
    const { instance, directory, nics, agentPort = false, disks } = keep as unknown as KeptMachine
    this.facts = { vm, epoch, until, instance }
    this.directory = directory
    this.#env = env
    this.#nics = nics
    this.#late = disks.map(({ sizeBytes, limits, caps }) => new LateDevice(sizeBytes, limits, caps))
    this.#disks = this.#late.map(disk => new GuestDisk(disk, () => this.#machine?.mayPass() ?? false))
    this.#qemu = new LeftQemu({ env, vm, directory, disks: this.#disks, nics, agentPort }, process)
  }

  /** Resolves when its process was reaped, and what served it is gone. */
  get gone(): Promise<void> {
    return this.#qemu.gone
  }

  /** The machine, which executes nothing that leaves it until it is started. Rejects with `machine-gone`, and then nothing of it lives. */
  async take(
    options: HypervisorOptions,
    spec: MachineSpec,
    epoch: number,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
  ): Promise<QemuMachine> {
    try {
      if (disks.length !== this.#late.length || ports.length !== this.#nics) {
        throw new StellwerkError('bad-machine', 'it has other devices than the VM is defined with now')
      }
      if (disks.some((disk, index) => disk.size < (this.#late[index]?.size ?? 0))) {
        throw new StellwerkError('bad-machine', 'a disk of it is smaller by now')
      }
      const qemu = await this.#qemu.connect()
      const identity = { epoch, instance: this.facts.instance }
      const machine = new QemuMachine(options, spec, identity, qemu, this.#disks, ports)
      this.#machine = machine
      await machine.found()
      for (const [index, disk] of disks.entries()) this.#late[index]?.bind(disk)
      return machine
    } catch (error) {
      await this.end()
      throw new StellwerkError('machine-gone', `its machine could not be taken over: ${describeError(error)}`, {
        where: this.facts.vm,
        cause: error,
      })
    }
  }

  /** Kills it; resolves when nothing of it is left. */
  async end(): Promise<void> {
    this.#qemu.kill()
    await this.#qemu.gone
    await Promise.all(this.#disks.map(disk => disk.settled()))
    this.#env.log.info({ vm: this.facts.vm }, 'what an earlier agent had left of it has ended')
  }
}
