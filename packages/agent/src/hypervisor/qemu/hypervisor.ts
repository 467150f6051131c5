// Real machines: each a QEMU process, driven by its monitor, its disks served to it by NBD on unix sockets.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import { HIGHEST_LEVEL, levelName, levelNamed } from '@stellwerk/protocol/cpu-levels.ts'
import { digestOf, digestOfGuest, pathOf } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { MAX_DISKS, MAX_NICS } from '@stellwerk/protocol/messages/cluster.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import type { Survivor } from '../../guardian/pipe.ts'
import type {
  Capabilities,
  Hypervisor,
  Incoming,
  LeftBehind,
  Machine,
  MachineSpec,
  NetworkPort,
} from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { UnwantedMachines } from '../unwanted-machines.ts'
import { type BootImage, decodeBootImage } from './boot-image.ts'
import {
  type Boot,
  commandLine,
  hasScreen,
  INITRD_FILE,
  KERNEL_FILE,
  kernelWords,
  MACHINE_PARAMETERS,
  SCREEN_SOCKET,
  SEED_FILE,
  VARIABLES_FILE,
} from './command-line.ts'
import { emptyVariables, findUefi, firmwareOf } from './firmware.ts'
import { GuestDisk } from './guest-disk.ts'
import { QemuIncoming } from './incoming.ts'
import { isKnownFormat, keptOf, LeftMachine } from './left-machine.ts'
import { QemuMachine } from './machine.ts'
import { probeQemu, QEMU_PROGRAM, type QemuFacts } from './probe.ts'
import { MACHINES, QemuProcess, removeMachines, type StartedProgram, type StartProgram } from './qemu-process.ts'
import { checkNetworkConfig, checkUserData, seedDataOf, seedImage } from './seed-image.ts'

const CPUS_MAX = 256
const MEMORY_MIN_BYTES = 64 * MIB
/** With a boot image's own words it is at most what a kernel takes on x86 (COMMAND_LINE_SIZE, 2048). */
const WORDS_MAX = 1_000

export interface QemuOptions {
  readonly start: StartProgram
  /** Machines of earlier agents that still run, with what keeps them. */
  readonly left?: readonly (readonly [Survivor, StartedProgram])[]
}

export class QemuHypervisor implements Hypervisor {
  readonly #options: HypervisorOptions
  readonly #qemu: QemuOptions
  #facts: Promise<QemuFacts> | null = null
  #count = 0
  /** With a screen, by VM. */
  readonly #screens = new Map<string, QemuProcess>()
  readonly #left = new Map<string, LeftMachine>()
  readonly #unwanted: UnwantedMachines
  /** Of machines that earlier agents had left. */
  readonly #keptDirectories = new Set<string>()

  constructor(options: HypervisorOptions, qemu: QemuOptions) {
    this.#options = options
    this.#qemu = qemu
    const [known, unknown] = parted(qemu.left ?? [], ([survivor]) => isKnownFormat(survivor))
    this.#unwanted = new UnwantedMachines(unknown)
    for (const { vm } of this.#unwanted.all()) {
      options.env.log.warn({ vm }, 'an agent of another version has left its machine: it is ended')
    }
    for (const [survivor, process] of known) {
      const left = new LeftMachine(options.env, survivor, process)
      this.#left.set(survivor.vm, left)
      this.#keptDirectories.add(left.directory)
      void left.gone.then(() => this.#forgetLeft(left))
    }
  }

  async probe(): Promise<Capabilities> {
    try {
      const { cpu } = await this.#probed()
      return { kind: 'qemu', available: true, cpu }
    } catch (error) {
      return { kind: 'qemu', available: false, why: describeError(error) }
    }
  }

  /** Tried once; again if it failed, since what was missing may have been installed. */
  #probed(): Promise<QemuFacts> {
    this.#facts ??= this.#begin().catch((error: unknown) => {
      this.#facts = null
      throw error
    })
    return this.#facts
  }

  async #begin(): Promise<QemuFacts> {
    // Of a predecessor: its machines have ended with it.
    if (this.#count === 0) await removeMachines(this.#options.env, MACHINES, this.#keptDirectories)
    return probeQemu(this.#options.env, this.#qemu.start)
  }

  create(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<QemuMachine> {
    return this.#start(spec, disks, ports, false)
  }

  async receive(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Incoming> {
    return new QemuIncoming(this.#options.env.compute, await this.#start(spec, disks, ports, true))
  }

  readonly left: LeftBehind = {
    all: () => [...[...this.#left.values()].map(({ facts }) => facts), ...this.#unwanted.all()],
    find: vm => this.#left.get(vm)?.facts ?? this.#unwanted.find(vm),
    taken: vm => void this.#left.delete(vm),
    end: vm => this.#endLeft(vm),
  }

  async adopt(
    spec: MachineSpec,
    epoch: number,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
  ): Promise<Machine> {
    const left = this.#left.get(spec.vm)
    if (left === undefined || left.facts.epoch !== epoch) {
      await this.#endLeft(spec.vm)
      throw new StellwerkError('machine-gone', `its machine of placement epoch ${epoch} is not here`, {
        where: spec.vm,
      })
    }
    const machine = await left.take(this.#options, spec, spec.identity?.epoch ?? 0, disks, ports)
    if (hasScreen(spec)) this.#showScreen(spec.vm, machine.qemu)
    return machine
  }

  async #endLeft(vm: string): Promise<void> {
    await Promise.all([this.#left.get(vm)?.end(), this.#unwanted.end(vm)])
  }

  #forgetLeft(left: LeftMachine): void {
    if (this.#left.get(left.facts.vm) === left) this.#left.delete(left.facts.vm)
  }

  async dialScreen(vm: string): Promise<ByteStream> {
    const qemu = this.#screens.get(vm)
    const away = (why: string, cause?: unknown): StellwerkError =>
      new StellwerkError('screen-away', `the screen of VM "${vm}" is not here: ${why}`, { retryable: true, cause })
    if (qemu === undefined) throw away('no machine of it is, or it has none')
    try {
      return await qemu.sockets.dial(SCREEN_SOCKET)
    } catch (error) {
      throw away(describeError(error), error)
    }
  }

  async #start(
    spec: MachineSpec,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
    incoming: boolean,
  ): Promise<QemuMachine> {
    checkQemuMachine(spec, disks.length, ports.length)
    const { env } = this.#options
    // Whoever starts it anew knows that the one before is not wanted.
    await this.#endLeft(spec.vm)
    const { accelerator } = await this.#probed()
    const { boot, contents } = await this.#boot(spec)
    const identity = { ...(spec.identity ?? { epoch: 0, instance: env.random.id() }) }
    const directory = `${MACHINES}/${identity.instance.slice(0, 12)}-${++this.#count}`
    let machine: QemuMachine | null = null
    const guestDisks = disks.map(disk => new GuestDisk(disk, () => machine?.mayPass() ?? false))
    const macs = ports.map(({ mac }) => present(mac, 'the MAC of a machine’s port'))
    const qemu = await QemuProcess.start({
      env,
      vm: spec.vm,
      program: QEMU_PROGRAM,
      args: commandLine({ spec, accelerator, disks: disks.length, macs, boot, seed: SEED_FILE in contents, incoming }),
      start: this.#qemu.start,
      directory,
      contents,
      disks: guestDisks,
      nics: ports.length,
      agentPort: true,
      keep: keptOf(identity.instance, directory, disks, ports.length),
      incoming,
    })
    machine = new QemuMachine(this.#options, spec, identity, qemu, guestDisks, ports)
    if (hasScreen(spec)) this.#showScreen(spec.vm, qemu)
    return machine
  }

  #showScreen(vm: string, qemu: QemuProcess): void {
    this.#screens.set(vm, qemu)
    void qemu.gone.then(() => {
      if (this.#screens.get(vm) === qemu) this.#screens.delete(vm)
    })
  }

  async #boot(spec: MachineSpec): Promise<{ boot: Boot; contents: { [name: string]: Uint8Array } }> {
    const data = seedDataOf(spec.parameters)
    const seed = data === null ? {} : { [SEED_FILE]: seedImage(spec.vm, data) }
    switch (firmwareOf(spec.guest)) {
      case 'bios':
        return { boot: { kind: 'bios' }, contents: seed }
      case 'uefi':
        return {
          boot: { kind: 'uefi', code: await findUefi(this.#qemu.start) },
          contents: { ...seed, [VARIABLES_FILE]: emptyVariables() },
        }
      case null: {
        const { kernel, initrd, commandLine: words } = await this.#image(spec)
        return {
          boot: { kind: 'kernel', commandLine: kernelWords(words, spec) },
          contents: { [KERNEL_FILE]: kernel, [INITRD_FILE]: initrd },
        }
      }
    }
  }

  async #image({ guest }: MachineSpec): Promise<BootImage> {
    const digest = digestOfGuest(guest)
    const bytes = await this.#options.env.files.read(digest === null ? guest : pathOf(digest))
    if (bytes === null) {
      throw new StellwerkError('bad-guest', 'there is no such boot image', {
        where: guest,
        hint: 'make one with: stellwerk image build tiny',
      })
    }
    if (digest !== null && digestOf(bytes) !== digest) {
      throw new StellwerkError('bad-guest', 'the file here is another image', { where: guest })
    }
    return decodeBootImage(guest, bytes)
  }
}

/** As much of a definition as shows, before there is a machine, that no host can run it. Throws `bad-machine`. */
export function checkQemuMachine(spec: MachineSpec, disks: number, ports: number): void {
  const bad = (what: string, hint: string): StellwerkError =>
    new StellwerkError('bad-machine', what, { where: `vm ${spec.vm}`, hint })
  if (disks > MAX_DISKS) throw bad(`a machine with ${disks} disks`, `give it at most ${MAX_DISKS}`)
  if (ports > MAX_NICS) throw bad(`a machine with ${ports} network cards`, `give it at most ${MAX_NICS}`)
  if (spec.memoryBytes < MEMORY_MIN_BYTES || spec.memoryBytes % MIB !== 0) {
    throw bad(`${spec.memoryBytes} bytes of memory`, 'give it whole MiB, and at least 64')
  }
  const { cpus } = spec.parameters
  if (cpus !== undefined && !(Number.isInteger(cpus) && Number(cpus) >= 1 && Number(cpus) <= CPUS_MAX)) {
    throw bad(`${JSON.stringify(cpus)} processors`, `give it a whole number from 1 to ${CPUS_MAX}`)
  }
  const { cpu } = spec.parameters
  if (cpu !== undefined && levelNamed(cpu) === null) {
    throw bad(`the processor ${JSON.stringify(cpu)}`, `it is one of ${levelName(1)} to ${levelName(HIGHEST_LEVEL)}`)
  }
  const { screen } = spec.parameters
  if (screen !== undefined && typeof screen !== 'boolean') {
    throw bad(`the screen ${JSON.stringify(screen)}`, 'it has one or not: true or false')
  }
  if (firmwareOf(spec.guest) !== null) {
    checkFirmwareMachine(spec, disks, bad)
    return
  }
  if (kernelWords('', spec).length > WORDS_MAX) {
    throw bad(
      'its parameters are too long',
      `name and values are at most ${WORDS_MAX} bytes on the kernel's command line`,
    )
  }
  for (const [name, value] of Object.entries(spec.parameters)) {
    if (/^[A-Za-z][A-Za-z0-9]*$/.test(name) && /^[!-~]*$/.test(String(value))) continue
    throw bad(`the parameter ${name}=${String(value)}`, 'names are letters and digits, values have no spaces')
  }
}

/** What is on its disk takes no words from us, but cloud-init does. */
function checkFirmwareMachine(
  spec: MachineSpec,
  disks: number,
  bad: (what: string, hint: string) => StellwerkError,
): void {
  if (disks === 0) throw bad(`it boots by ${spec.guest} and has no disk`, 'give it one: --disk VOLUME/SNAPSHOT')
  for (const [name, value] of Object.entries(spec.parameters)) {
    if (name === 'userData') checkUserData(spec.vm, value)
    else if (name === 'networkConfig') checkNetworkConfig(spec.vm, value)
    else if (!MACHINE_PARAMETERS.includes(name)) {
      throw bad(
        `the parameter ${name}, which a machine with firmware has not`,
        `it has ${MACHINE_PARAMETERS.join(', ')}`,
      )
    }
  }
}

function parted<T>(all: readonly T[], predicate: (each: T) => boolean): [T[], T[]] {
  return [all.filter(predicate), all.filter(each => !predicate(each))]
}
