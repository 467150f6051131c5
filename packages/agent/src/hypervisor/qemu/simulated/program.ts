// QEMU as the simulation has it: a program of the machine that takes QEMU's command line, connects to the sockets that stand
// there, answers on its monitor, asks for its disk by NBD and migrates by a stream of its own. What it runs is the model's guest.
// The agent drives it as it does the real one, which keeps the same contract (test/qemu/contract.long.test.ts).

import type { ByteStream, CommandSpec, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CommandProgram } from '@stellwerk/runtime/sim/simulation.ts'
import { modelParameters } from '../../model/parameters.ts'
import { AGENT_PORT } from '../command-line.ts'
import { guestParameters, type MachineArguments, readArguments } from './arguments.ts'
import { AGENT_KINDS, SimulatedGuestAgent } from './guest-agent.ts'
import { SimulatedMachine, type SimulatedNic } from './machine.ts'
import { MigrationSource } from './migration-source.ts'
import { MigrationReader } from './migration-stream.ts'
import { type Arguments, MainLoop, refusal, SimulatedMonitor } from './monitor.ts'
import { NbdNode } from './nbd-node.ts'
import { type ServedSocket, serveSocket } from './served-socket.ts'
import { VirtualDisk } from './virtual-disk.ts'

export interface SimulatedQemuOptions {
  /** What `--version` tells. */
  readonly version?: string
  /** What a migration carries, pages of 4 KiB a millisecond; drawn anew for each. */
  readonly pagesPerMs: (env: Environment) => number
}

const OLDEST = '7.2.0'
/** How isa-debug-exit ends QEMU when the probe's guest tells it the first letter of GenuineIntel. */
const PROBED = ('G'.charCodeAt(0) * 2 + 1) % 256
const FAILED = 1

export function simulatedQemu(options: SimulatedQemuOptions): CommandProgram {
  return async (env, spec, output) => {
    const { args } = spec
    const fail = (why: string): void => {
      output.printError(`${spec.program}: ${why}\n`)
      env.processes.exit(FAILED)
    }
    try {
      if (args.includes('--version')) {
        output.print(`QEMU emulator version ${options.version ?? OLDEST}\n`)
        env.processes.exit(0)
      } else if (args.some(word => word.startsWith('isa-debug-exit'))) await probe(env, args, fail)
      else await new SimulatedQemu(env, spec, options, fail).start()
    } catch (error) {
      // What is no refusal of its own is a bug of it.
      if (!(error instanceof StellwerkError)) throw error
      fail(errorMessage(error))
    }
  }
}

/** A few instructions of a guest: nothing but software runs them here. */
async function probe(env: Environment, args: readonly string[], fail: (why: string) => void): Promise<void> {
  const rom = args[args.indexOf('-bios') + 1] ?? ''
  if (args.includes('kvm')) fail('failed to initialize kvm: No such file or directory')
  else if ((await env.files.read(rom)) === null) fail(`could not load PC BIOS '${rom}'`)
  else env.processes.exit(PROBED)
}

class SimulatedQemu {
  readonly #env: Environment
  readonly #options: SimulatedQemuOptions
  readonly #fail: (why: string) => void
  readonly #arguments: MachineArguments
  readonly #loop = new MainLoop()
  readonly #capabilities = new Set<string>()
  #downtimeMs = 300
  readonly #monitors = new Map<'first' | 'adoption', SimulatedMonitor>()
  #source: MigrationSource | null = null
  #agent: SimulatedGuestAgent | null = null

  constructor(env: Environment, spec: CommandSpec, options: SimulatedQemuOptions, fail: (why: string) => void) {
    this.#env = env
    this.#options = options
    this.#fail = fail
    this.#arguments = readArguments(spec.args)
  }

  async start(): Promise<void> {
    const { monitor, adoption, console, agent, disks, nics, kernel, initrd, kernelWords, incoming } = this.#arguments
    for (const file of [kernel, initrd]) {
      if ((await this.#env.files.read(file)) === null)
        throw new StellwerkError('bad-arguments', `could not open ${file}`)
    }
    // A monitor closes when QEMU's keeper is gone, which does not end it.
    const event = (name: string, data: Arguments = {}): void => this.#event(name, data)
    const { vm, parameters: told } = guestParameters(kernelWords)
    const { agent: kind, ...parameters } = told
    const memory = { vm, hypervisor: 'model', guest: 'ledger', memoryBytes: 0 } as const
    const serial = await serveSocket(this.#env, console, chunk => machine.type(chunk))
    const deaf = (): void => undefined
    const cards: SimulatedNic[] = []
    for (const { socket, mac } of nics) cards.push({ socket: await serveSocket(this.#env, socket, deaf), mac })
    const { disk: works, ...model } = parameters
    const machine: SimulatedMachine = new SimulatedMachine({
      ...{ env: this.#env, loop: this.#loop, vm, event },
      parameters: modelParameters({ ...memory, parameters: model }),
      console: serial,
      nics: cards,
      worksOn: diskNumber(works),
      onPowerOff: () => this.#env.processes.exit(0),
    })
    for (const disk of disks) {
      const node = await NbdNode.open(this.#env, disk, socket => this.#dial(socket))
      const failed = (operation: string, why: string): void => machine.blockError(disk.name, operation, why)
      machine.attach(new VirtualDisk(node, machine.memory, vm, failed))
    }
    await this.#install(machine, { vm, kind, mac: nics[0]?.mac ?? null, socket: agent })
    if (incoming) machine.state = 'inmigrate'
    const again: ServedSocket = await serveSocket(
      this.#env,
      adoption,
      chunk => this.#monitors.get('adoption')?.take(chunk),
      () => this.#greet(machine, 'adoption', parts => again.write(parts)),
    )
    const control = await this.#dial(monitor)
    const first = this.#greet(machine, 'first', parts => control.write([...parts]))
    control.onData(chunk => first.take(chunk))
  }

  /** What is on the port of the guest's agent; none is where the guest's parameters name none. */
  async #install(
    machine: SimulatedMachine,
    { vm, kind, mac, socket }: { vm: string; kind: string | number | undefined; mac: string | null; socket: string },
  ): Promise<void> {
    const port: ServedSocket = await serveSocket(this.#env, socket, chunk => this.#agent?.take(chunk))
    const known = AGENT_KINDS.find(each => each === kind)
    if (known === undefined) return
    this.#agent = new SimulatedGuestAgent({
      ...{ kind: known, hostName: vm, mac },
      write: bytes => port.write([bytes]),
      event: (name, data) => this.#event(name, data),
      isAtRest: () => machine.isAtRest,
      shutDown: () => machine.shutDown(),
    })
    machine.install(this.#agent)
  }

  #greet(
    machine: SimulatedMachine,
    which: 'first' | 'adoption',
    write: (parts: readonly Uint8Array[]) => void,
  ): SimulatedMonitor {
    const monitor = new SimulatedMonitor(write, this.#loop, (command, args) => this.#execute(machine, command, args))
    this.#monitors.set(which, monitor)
    monitor.greet(this.#options.version ?? OLDEST)
    return monitor
  }

  #event(name: string, data: Arguments = {}): void {
    for (const monitor of this.#monitors.values()) monitor.event(name, data)
  }

  #dial(name: string): Promise<ByteStream> {
    return this.#env.network.dialStream({ network: 'local', host: this.#env.files.locate(name), port: 0 })
  }

  // --- commands ------------------------------------------------------------------------------------------------------

  async #execute(machine: SimulatedMachine, command: string, args: Arguments): Promise<Json> {
    switch (command) {
      case 'qmp_capabilities':
        return {}
      case 'query-status':
        return { status: machine.state, running: machine.state === 'running', singlestep: false }
      case 'query-chardev':
        return [{ label: AGENT_PORT, filename: '', 'frontend-open': this.#agent?.isOpen === true }]
      case 'stop':
        await machine.stop('paused')
        return {}
      case 'cont':
        machine.continue()
        return {}
      case 'system_reset':
        machine.resetSoon()
        return {}
      case 'system_powerdown':
        machine.pressButton()
        return {}
      case 'migrate-set-capabilities':
        if (this.#source?.over === false) throw refusal("There's a migration process in progress")
        for (const { capability, state } of args['capabilities'] as { capability: string; state: boolean }[]) {
          if (state) this.#capabilities.add(capability)
          else this.#capabilities.delete(capability)
        }
        return {}
      case 'migrate-set-parameters':
        if (typeof args['downtime-limit'] === 'number') this.#downtimeMs = args['downtime-limit']
        return {}
      case 'migrate':
        this.#migrate(machine, String(args['uri']))
        return {}
      case 'migrate-continue':
        if (this.#source === null) throw refusal('Migration not in expected state: none')
        this.#source.continue(args['state'] ?? null)
        return {}
      case 'migrate_cancel':
        this.#source?.cancel()
        return {}
      case 'migrate-incoming':
        await this.#receive(machine, String(args['uri']))
        return {}
      case 'query-migrate':
        return this.#source?.statistics ?? {}
      default:
        throw refusal(`The command ${command} has not been found`)
    }
  }

  #migrate(machine: SimulatedMachine, uri: string): void {
    if (this.#source !== null && !this.#source.over) throw refusal("There's a migration process in progress")
    if (machine.state === 'inmigrate') throw refusal('Guest is waiting for an incoming migration')
    if (machine.state === 'postmigrate') throw refusal("Can't migrate the vm that was paused due to previous migration")
    const source = new MigrationSource({
      ...{ env: this.#env, loop: this.#loop, machine },
      event: (name, data) => this.#event(name, data),
      capabilities: new Set(this.#capabilities),
      downtimeMs: () => this.#downtimeMs,
      pagesPerMs: this.#options.pagesPerMs(this.#env),
    })
    this.#source = source
    void source.run(() => this.#dial(socketOf(uri)))
  }

  /** Listens; a stream that is damaged, or ends too early, ends this QEMU. */
  async #receive(machine: SimulatedMachine, uri: string): Promise<void> {
    if (machine.state !== 'inmigrate') throw refusal("'-incoming' was not specified on the command line")
    const told = (status: string): void => {
      if (this.#capabilities.has('events')) this.#event('MIGRATION', { status })
    }
    const host = this.#env.files.locate(socketOf(uri))
    let isTaken = false
    await this.#env.network.listenStream({ network: 'local', host, port: 0 }, stream => {
      if (isTaken) {
        stream.destroy()
        return
      }
      isTaken = true
      told('active')
      let isOver = false
      const broken = (why: string): void => {
        if (!isOver) this.#fail(`load of migration failed: ${why}`)
        isOver = true
      }
      const reader = new MigrationReader(machine.memory, state => {
        machine.deviceState = state
      })
      stream.onData(chunk => {
        if (isOver) return
        try {
          if (!reader.take(chunk)) return
        } catch (error) {
          if (!(error instanceof StellwerkError)) throw error
          broken(errorMessage(error))
          return
        }
        isOver = true
        machine.state = 'paused'
        told('completed')
      })
      stream.onEnd(() => broken('Input/output error'))
      stream.onClose(() => broken('Input/output error'))
    })
    told('setup')
  }
}

/** As Linux calls virtio disks: `vda` is the first, which the guest works on unless it is told another. */
function diskNumber(name: number | string = 'vda'): number {
  const letter = /^vd([a-h])$/.exec(String(name))?.[1]
  if (letter === undefined) throw new StellwerkError('bad-arguments', `no disk is simulated for ${name}`)
  return letter.charCodeAt(0) - 'a'.charCodeAt(0)
}

function socketOf(uri: string): string {
  if (!uri.startsWith('unix:')) throw refusal(`unknown migration protocol: ${uri}`)
  return uri.slice('unix:'.length)
}
