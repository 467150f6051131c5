// A simulated machine: its clock, its disk, its processes, its power switch.

import { assert } from '../assert.ts'
import type { CommandSpec, Environment, Json, NetworkName } from '../environment.ts'
import { SimDisk } from './disk.ts'
import { type ProcessSeed, SimProcess } from './process.ts'
import type { Simulation } from './simulation.ts'
import type { CrashMode } from './sparse-file.ts'

export interface CrashOptions {
  /** What becomes of data not synced: all of it lost, each 512-byte sector lost or kept at random, or all of it kept. */
  readonly unsynced?: CrashMode
}

/** Processes one host may start in a simulation. */
const PROCESSES_MAX = 100_000
/** A host has been up for at most this long when the simulation begins. */
const UPTIME_MAX_MS = 10_000_000
/** What the monotonic clock shows when the first process runs after a power loss. */
const BOOTED_AT_MS = 5000
/** A timer on a drifting clock rings this much late rather than a rounding error early. */
const DRIFT_GUARD_MS = 1 / 1024

export class SimHost {
  readonly name: string
  readonly disk: SimDisk
  readonly #sim: Simulation
  #powered = true
  /** Time by this host's clock since the simulation began: `#elapsedBase + (now - #elapsedSince) * #rate`. */
  #rate = 1
  #elapsedBase = 0
  #elapsedSince = 0
  /** What the monotonic clock shows beyond that: it counts from the boot, and no two hosts booted together. */
  #clockOffset: number
  #wallOffset = 0
  /** Every process started, by pid; and by name how many. */
  readonly #processes = new Map<number, SimProcess>()
  readonly #newest = new Map<string, SimProcess>()
  readonly #started = new Map<string, number>()

  constructor(sim: Simulation, name: string) {
    this.#sim = sim
    this.name = name
    this.disk = new SimDisk(sim, this)
    this.#clockOffset = sim.random.fork(`clock/${name}`).int(UPTIME_MAX_MS)
  }

  get powered(): boolean {
    return this.#powered
  }

  // --- processes -----------------------------------------------------------------------------------------------------

  /** Starts a program as the machine's init would; it runs from the next event on. */
  spawn(program: string, name: string, config: Json = null): SimProcess {
    return this.start(program, name, config, null)
  }

  start(program: string, name: string, config: Json, parent: SimProcess | null): SimProcess {
    return this.#start({ program, name, config, parent })
  }

  /** A program of the machine, in its working directory. */
  startCommand(spec: CommandSpec, parent: SimProcess, main: (env: Environment) => void | Promise<void>): SimProcess {
    const { program, name, directory } = spec
    return this.#start({ program, name, config: null, parent, main, ...(directory === undefined ? {} : { directory }) })
  }

  #start(seed: Omit<ProcessSeed, 'incarnation'>): SimProcess {
    const { name } = seed
    assert(this.#powered, `${this.name} has power when ${name} starts`)
    assert(this.#processes.size < PROCESSES_MAX, `at most ${PROCESSES_MAX} live processes on ${this.name}`)
    const incarnation = (this.#started.get(name) ?? 0) + 1
    this.#started.set(name, incarnation)
    const process = new SimProcess(this.#sim, this, { ...seed, incarnation })
    this.#processes.set(process.pid, process)
    this.#newest.set(name, process)
    return process
  }

  /** The newest process of that name, dead or alive. */
  process(name: string): SimProcess | null {
    return this.#newest.get(name) ?? null
  }

  /** The live processes, oldest first. */
  get processes(): readonly SimProcess[] {
    return [...this.#processes.values()]
  }

  reaped(process: SimProcess): void {
    this.#processes.delete(process.pid)
  }

  pause(): void {
    for (const process of this.processes) process.pause()
  }

  resume(): void {
    for (const process of this.processes) process.resume()
  }

  // --- power ---------------------------------------------------------------------------------------------------------

  /** Power loss: every process is gone at once and says nothing to anybody; unsynced data suffers as told. */
  crash(options: CrashOptions = {}): void {
    if (!this.#powered) return
    this.#powered = false
    this.#sim.emit({ level: 'decision', kind: 'host.crashed', host: this.name })
    for (const process of this.processes) process.end({ code: null, signal: 'power' }, 'silent')
    this.disk.powerLost(options.unsynced ?? 'lost')
    this.#sim.network.changed()
  }

  /** Power is back; nothing runs until something is spawned. */
  powerOn(): void {
    if (this.#powered) return
    this.#powered = true
    this.#clockOffset = BOOTED_AT_MS - this.#elapsed()
    this.#sim.emit({ level: 'decision', kind: 'host.powered-on', host: this.name })
    this.#sim.network.changed()
  }

  // --- clock ---------------------------------------------------------------------------------------------------------

  /** The monotonic clock of this machine; it starts again with each boot. */
  now(): number {
    return this.#clockOffset + this.#elapsed()
  }

  wall(): number {
    return this.#sim.wallStartMs + this.#elapsed() + this.#wallOffset
  }

  #elapsed(): number {
    return this.#elapsedBase + (this.#sim.now - this.#elapsedSince) * this.#rate
  }

  /** 1.005: this machine's clock gains five milliseconds a second. Timers already set keep their time. */
  setClockRate(rate: number): void {
    assert(rate > 0.1 && rate < 10, `a clock rate of ${rate}`)
    this.#elapsedBase = this.#elapsed()
    this.#elapsedSince = this.#sim.now
    this.#rate = rate
  }

  /** The wall clock jumps (forward or back); the monotonic clock does not. */
  jumpWall(byMs: number): void {
    this.#wallOffset += byMs
  }

  /** How much virtual time a local delay takes. */
  virtualDelay(localMs: number): number {
    return this.#rate === 1 || localMs === 0 ? localMs : localMs / this.#rate + DRIFT_GUARD_MS
  }

  /** Takes the address on a network away: see SimNetwork.interfaceDown. */
  interfaceDown(network: NetworkName): ReturnType<Simulation['network']['interfaceDown']> {
    return this.#sim.network.interfaceDown(this.name, network)
  }
}
