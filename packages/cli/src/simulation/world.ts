// A whole cluster in the simulator: the real coordinator, guardians, agents, storages, each a process on its own simulated
// machine. What a seed does to it is plan.ts; how it is judged is run-seed.ts.

import { type Agent, type AgentState, startAgent } from '@stellwerk/agent/agent.ts'
import type { AgentConfig } from '@stellwerk/agent/agent-config.ts'
import { type GuardianConfig, startGuardian } from '@stellwerk/agent/guardian/guardian.ts'
import { encodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { QEMU_PROGRAM } from '@stellwerk/agent/hypervisor/qemu/probe.ts'
import { simulatedQemu } from '@stellwerk/agent/hypervisor/qemu/simulated/program.ts'
import { type Coordinator, type CoordinatorConfig, startCoordinator } from '@stellwerk/coordinator/coordinator.ts'
import type { Command } from '@stellwerk/coordinator/core/commands.ts'
import { planLayout } from '@stellwerk/csv/format/layout.ts'
import { isFinal } from '@stellwerk/csv/owner/refusal.ts'
import { digestOf, guestOfDigest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import { PROFILES, type Settings } from '@stellwerk/protocol/settings.ts'
import type { Address, Environment, Json, NetworkName } from '@stellwerk/runtime/environment.ts'
import type { SimProcess } from '@stellwerk/runtime/sim/process.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { Simulation, type SimulationOptions } from '@stellwerk/runtime/sim/simulation.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { type StorageConfig, startStorage } from '@stellwerk/storage/server.ts'
import { ExternalStorages } from './external-storages.ts'
import { AWAY, OperatorCalls } from './operator-calls.ts'
import type { PlannedVm } from './plan.ts'
import { RepeatedOrders } from './repeated-orders.ts'
import { Rot } from './rot.ts'
import { ScrubOperator } from './scrub-operator.ts'

export interface Answer {
  readonly ok: boolean
  /** Asking again changes nothing. */
  readonly final: boolean
  readonly reply: unknown
}

export const COORDINATOR_HOST = 'coord'
export const CLUSTER = 'sim'
export const TOKEN = 'join-token-of-the-simulation'
export const FABRICS: readonly NetworkName[] = ['fabric-0', 'fabric-1']
export const PORT = { coordinator: 7000, agent: 7001, control: 7002, nbd: 10809, guest: 7003 } as const

export interface WorldOptions {
  readonly seed: string | number
  readonly hosts: readonly string[]
  readonly storages: readonly string[]
  /** Plain NBD servers, which enforce nothing: each with one export for every LUN, of `VOLUME_BYTES`. */
  readonly external?: readonly string[]
  readonly settings: Partial<Settings>
  readonly hostMemoryBytes: number
  /** Hosts have a virtual switch, and VMs may have network cards. */
  readonly guestNetwork?: boolean
  /** Hosts have QEMU. */
  readonly qemu?: boolean
  readonly onLog?: SimulationOptions['onLog']
  readonly onCoreInput?: SimulationOptions['onCoreInput']
}

export class World {
  readonly sim: Simulation
  readonly options: WorldOptions
  readonly settings: Settings
  readonly repeated: RepeatedOrders
  readonly external: ExternalStorages
  readonly rot: Rot
  readonly scrubs: ScrubOperator
  /** The coordinator has been put back from a copy of its state: what it says is not how things are. */
  hasOlderState = false
  readonly #calls: OperatorCalls
  #coordinator: { readonly handle: Coordinator; readonly process: SimProcess } | null = null
  readonly #agents = new Map<string, { readonly handle: Agent; readonly process: SimProcess }>()

  constructor(options: WorldOptions) {
    this.options = options
    this.settings = { ...PROFILES.lab, ...options.settings }
    this.sim = new Simulation({
      seed: options.seed,
      // Who wants records listens; those kept only age in memory.
      traceKeepMax: 1_000,
      ...(options.onLog === undefined ? {} : { onLog: options.onLog }),
      ...(options.onCoreInput === undefined ? {} : { onCoreInput: options.onCoreInput }),
    })
    this.#calls = new OperatorCalls(this.sim)
    this.repeated = new RepeatedOrders(new SimRandom(`repeated/${options.seed}`))
    this.rot = new Rot(this)
    this.scrubs = new ScrubOperator(this)
    this.sim.program('storage', async (env, config) => {
      const own = config as unknown as StorageConfig
      await startStorage(this.repeated.environment(own.name, env), own)
    })
    this.external = new ExternalStorages(this.sim, options.external ?? [], VOLUME_BYTES, portalsOf)
    if (options.qemu === true) this.sim.command(QEMU_PROGRAM, simulatedQemu({ pagesPerMs: migrationSpeed }))
    this.sim.program('guardian', async (env, config) => {
      const own = config as unknown as GuardianConfig
      await startGuardian(this.repeated.environment(own.host, env), own)
    })
    this.sim.program('agent', async (env, config) => {
      const own = config as unknown as AgentConfig
      const { host } = own
      const process = this.sim.host(host).process(`${host}/agent`)
      const handle = await startAgent(this.repeated.environment(host, env), own)
      if (process !== null) this.#agents.set(host, { handle, process })
    })
    this.sim.program('coordinator', async (env, config) => {
      const process = this.sim.host(COORDINATOR_HOST).process('coordinator')
      const own = this.repeated.environment(COORDINATOR_HOST, env)
      const handle = await startCoordinator(own, config as unknown as CoordinatorConfig)
      if (process !== null) this.#coordinator = { handle, process }
    })
  }

  /** Switches everything on. */
  start(): void {
    for (const name of this.external.names) this.external.start(name)
    for (const storage of this.options.storages) this.startStorage(storage)
    this.startCoordinator()
    for (const host of this.options.hosts) this.startHost(host)
  }

  startStorage(name: string): void {
    const host = this.sim.host(name)
    host.powerOn()
    if (host.process(name)?.alive) return
    const config: StorageConfig = {
      name,
      cluster: CLUSTER,
      credential: TOKEN,
      portals: portalsOf(name),
      control: controlAddresses(name),
    }
    host.spawn('storage', name, config as unknown as Json)
  }

  startCoordinator(): void {
    const host = this.sim.host(COORDINATOR_HOST)
    host.powerOn()
    if (host.process('coordinator')?.alive) return
    this.#coordinator = null
    const config: CoordinatorConfig = {
      cluster: CLUSTER,
      token: TOKEN,
      profile: 'lab',
      settings: this.options.settings,
      listen: { network: 'cluster', host: COORDINATOR_HOST, port: PORT.coordinator },
      storages: [
        ...this.options.storages.map(name => ({ name, portals: portalsOf(name), control: controlAddresses(name) })),
        ...this.external.names.map(name => ({
          ...{ name, portals: portalsOf(name), control: [] },
          external: { exports: [] },
        })),
      ],
    }
    host.spawn('coordinator', 'coordinator', config as unknown as Json)
  }

  /** The guardian, which starts the agent. */
  startHost(name: string): void {
    const host = this.sim.host(name)
    host.powerOn()
    if (host.process(`${name}/guardian`)?.alive) return
    host.spawn('guardian', `${name}/guardian`, this.guardianConfig(name) as unknown as Json)
  }

  /** `at`: the machine it is for, where that has another name. */
  guardianConfig(name: string, at = name): GuardianConfig {
    return {
      cluster: CLUSTER,
      token: TOKEN,
      host: name,
      coordinator: { network: 'cluster', host: COORDINATOR_HOST, port: PORT.coordinator },
      supervise: true,
      agent: {
        listen: { network: 'cluster', host: at, port: PORT.agent },
        ...(this.options.guestNetwork === true ? { guest: { network: 'guest', host: at, port: PORT.guest } } : {}),
        memoryBytes: this.options.hostMemoryBytes,
        hbas: FABRICS,
        hypervisors: this.options.qemu === true ? ['model', 'qemu'] : ['model'],
      },
    }
  }

  /** The coordinator that answers now and can be believed, or null. */
  get coordinator(): Coordinator | null {
    const current = this.#coordinator
    if (this.hasOlderState) return null
    return current?.process.alive === true && !current.process.paused ? current.handle : null
  }

  /** What is in the host's agent now; null if it does not run. */
  agent(host: string): AgentState | null {
    const current = this.#agents.get(host)
    return current?.process.alive === true && !current.process.paused ? current.handle.inspect() : null
  }

  /** Asks a volume's owner, through the coordinator, what disks there are; `then` hears null if nobody answers. */
  disks(volume: string, then: (disks: readonly DiskInfo[] | null) => void): void {
    this.askOwner(volume, 'volume.list-disks', { volume }, ({ ok, reply }) =>
      then(ok ? (reply as { disks: readonly DiskInfo[] }).disks : null),
    )
  }

  /** Asks a volume's owner, through the coordinator. */
  askOwner(volume: string, kind: string, body: object, then: (answer: Answer) => void): void {
    const current = this.#coordinator
    if (this.coordinator === null || current === null) {
      then({ ok: false, final: false, reply: null })
      return
    }
    this.#calls.put(
      current.process,
      () => current.handle.askOwner(volume, kind, body),
      said => then(said.ok ? { ...said, final: true } : { ok: false, final: isFinal(said.code), reply: null }),
    )
  }

  /** An operator makes a VM, and brings the image that it boots, if it has one. */
  create(vm: PlannedVm, command: Command = createVm(vm)): void {
    const current = this.#coordinator
    if (vm.hypervisor !== 'qemu' || current?.process.alive !== true || current.process.paused) {
      this.command(command)
      return
    }
    const { guests } = current.handle
    const call = () => guests.hold(BOOT_IMAGE, () => current.handle.command(command))
    this.#calls.put(current.process, call, () => undefined)
  }

  /** An operator presses the reset button of a real machine, as the API does it. Its host tells whether it came to that. */
  reset(vm: string): void {
    const current = this.#coordinator
    if (this.coordinator === null || current === null) return
    const { handle, process } = current
    const call = async (): Promise<void> => {
      const target = (await handle.command({ kind: 'vm-reset', name: vm })) as { readonly host: string }
      await handle.askAgent(target.host, 'vm.reset', target)
    }
    this.#calls.put(process, call, () => undefined)
  }

  /** An operator's command; what becomes of it is told to `then`. Dropped when no coordinator is there. */
  command(command: Command, then: (result: { ok: boolean; code: string }) => void = () => undefined): void {
    const current = this.#coordinator
    if (current === null || !current.process.alive || current.process.paused) {
      then({ ok: false, code: AWAY })
      return
    }
    this.#calls.put(
      current.process,
      () => current.handle.command(command),
      said => then({ ok: said.ok, code: said.ok ? '' : said.code }),
    )
  }
}

/** Thirteen extents: so few that what was given back is soon used again. */
export const VOLUME_BYTES = 64 * MIB
/** All volumes of a simulation have the same shape. */
const LAYOUT = planLayout({ volumeId: 'any', clusterId: 'any', volumeBytes: VOLUME_BYTES })

/** Where a volume's extents begin, and how long each is. */
export const EXTENTS = { offset: LAYOUT.dataOffset, bytes: LAYOUT.extentBytes }

/** The extent a byte of a volume belongs to; null for the metadata in front. */
export function extentAt(_volume: string, offset: number): number | null {
  return offset < LAYOUT.dataOffset ? null : Math.floor((offset - LAYOUT.dataOffset) / LAYOUT.extentBytes)
}

export function isInJournal(offset: number): boolean {
  return offset >= LAYOUT.journalOffset && offset < LAYOUT.journalOffset + LAYOUT.journalBytes
}

const VM_MEMORY = 256 * MIB
/** What the simulated QEMU boots is not looked at: it runs the model's guest. */
const BOOT_IMAGE = encodeBootImage({
  kernel: Buffer.from('the kernel of a model guest'),
  initrd: Buffer.from('its initial RAM disk'),
  commandLine: 'quiet',
})
/** Two extents: the log's, and that of the scratch area, which begins a little in front of it so that requests straddle. */
const DISK_BYTES = 8 * MIB
const SCRATCH_BYTES = 4 * MIB + 32 * KIB

export function createVm(vm: PlannedVm, diskBytes = DISK_BYTES): Command {
  return {
    kind: 'vm-create',
    name: vm.name,
    spec: {
      ...(vm.hypervisor === 'qemu'
        ? { hypervisor: vm.hypervisor, guest: guestOfDigest(digestOf(BOOT_IMAGE)) }
        : ({ hypervisor: 'model', guest: 'ledger' } as const)),
      memoryBytes: VM_MEMORY,
      parameters: { ...vm.parameters, scratchBytes: SCRATCH_BYTES },
    },
    disks: [{ volume: vm.volume, sizeBytes: diskBytes }],
    ...(vm.network === undefined ? {} : { nics: [{ network: vm.network, mac: null, addresses: [] }] }),
    start: true,
    priority: 0,
    host: null,
  }
}

/** Pages a millisecond: from a guest that dirties as much as is carried to one that has never anything left. */
function migrationSpeed({ random }: Environment): number {
  return 0.15 * 30 ** random.float()
}

function portalsOf(name: string): Address[] {
  return FABRICS.map(network => ({ network, host: name, port: PORT.nbd }))
}

function controlAddresses(name: string): Address[] {
  const networks: NetworkName[] = ['cluster', ...FABRICS]
  return networks.map(network => ({ network, host: name, port: PORT.control }))
}
