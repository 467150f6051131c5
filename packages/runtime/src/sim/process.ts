// A simulated process: when its code may run, when what it does has an effect, and how it ends. What it sees of the world is
// in process-environment.ts; its children are in process-tree.ts.

import { assert } from '../assert.ts'
import type { Environment, Json } from '../environment.ts'
import type { SimEvent } from './event-queue.ts'
import type { SimHost } from './host.ts'
import { createEnvironment } from './process-environment.ts'
import { ProcessTree } from './process-tree.ts'
import type { Simulation } from './simulation.ts'

export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

export interface ProcessSeed {
  readonly program: string
  readonly name: string
  readonly config: Json
  /** How often a process of this name was started on this host, this one included. */
  readonly incarnation: number
  readonly parent: SimProcess | null
  /** What a program of the machine runs; absent: the program that the simulation knows by that name. */
  readonly main?: Main
  /** Where its files are, absolute; absent: in a directory of its own. */
  readonly directory?: string
}

type Main = (env: Environment, config: Json) => void | Promise<void>

/** From the call that starts a process to its first line. */
const START_MS = 2
/** Events and calls a paused process may gather. */
const HELD_MAX = 1_000_000

export class SimProcess {
  readonly name: string
  readonly program: string
  readonly config: Json
  readonly host: SimHost
  readonly pid: number
  /** By the simulation's clock. */
  readonly startedAt: number
  readonly incarnation: number
  /** Where its files are, absolute; null: in the directory of its name. */
  readonly directory: string | null
  readonly env: Environment
  readonly tree: ProcessTree
  readonly #sim: Simulation
  #exit: Exit | null = null
  #paused = false
  #hangs = false
  /** What arrived while paused, in order; after the resume each gets its own event. */
  #arrived: (() => void)[] = []
  /** What it still did in the event in which it was paused. */
  #unsent: (() => void)[] = []
  #stopListener: (() => void) | null = null
  #stopTold = false

  constructor(sim: Simulation, host: SimHost, seed: ProcessSeed) {
    this.#sim = sim
    this.host = host
    this.name = seed.name
    this.program = seed.program
    this.config = seed.config
    this.incarnation = seed.incarnation
    this.directory = seed.directory ?? null
    this.pid = sim.takePid()
    this.startedAt = sim.now
    this.tree = new ProcessTree(sim, this, seed.parent)
    this.env = createEnvironment(sim, this)
    const main: Main = seed.main ?? sim.programNamed(seed.program)
    sim.schedule(START_MS, this, () => {
      const done = main(this.env, this.config)
      if (done !== undefined) done.catch((error: unknown) => this.crash(error))
    })
  }

  get alive(): boolean {
    return this.#exit === null
  }

  get paused(): boolean {
    return this.#paused
  }

  /** How it ended; null while it lives. */
  get exit(): Exit | null {
    return this.#exit
  }

  // --- what the scenario does to it ----------------------------------------------------------------------------------

  /** SIGKILL. The page cache survives, its connections are reset, its children learn that it is gone. */
  kill(): void {
    this.end({ code: null, signal: 'SIGKILL' }, 'reset')
  }

  /** SIGTERM: the process is asked to end in order, or ends if it does not listen. */
  stop(): void {
    this.deliver(() => {
      if (this.#stopListener === null) {
        this.end({ code: null, signal: 'SIGTERM' }, 'reset')
      } else if (!this.#stopTold) {
        this.#stopTold = true
        this.#stopListener()
      }
    })
  }

  /** SIGSTOP: nothing of it runs, its clock goes on, its kernel still takes what arrives. */
  pause(): void {
    if (!this.alive || this.#paused) return
    this.#paused = true
    this.#sim.emit({
      level: 'decision',
      kind: 'process.paused',
      host: this.host.name,
      body: { process: this.name, incarnation: this.incarnation },
    })
    this.#sim.network.processPausedOrResumed(this)
  }

  /** SIGCONT. */
  /** Paused for good: it can only be killed. */
  hang(): void {
    this.pause()
    this.#hangs = true
  }

  resume(): void {
    if (!this.alive || !this.#paused || this.#hangs) return
    this.#paused = false
    this.#sim.emit({
      level: 'decision',
      kind: 'process.resumed',
      host: this.host.name,
      body: { process: this.name, incarnation: this.incarnation },
    })
    this.#sim.network.processPausedOrResumed(this)
    for (const effect of this.#unsent.splice(0)) effect()
    if (this.#arrived.length > 0) this.#sim.schedule(0, null, () => this.#deliverArrived())
  }

  // --- for the parts of the simulation -------------------------------------------------------------------------------

  /** Runs code of this process in an event: at once, or in order when it wakes, or never. */
  deliver(f: () => void): void {
    if (!this.alive) return
    if (this.#paused || this.#arrived.length > 0) {
      assert(this.#arrived.length < HELD_MAX, `${this.name} gathers at most ${HELD_MAX} events while paused`)
      this.#arrived.push(f)
    } else this.#sim.enter(this, f)
  }

  /** An event of this process, a virtual `delayMs` from now. */
  later(delayMs: number, f: () => void): SimEvent {
    return this.#sim.schedule(delayMs, this, f)
  }

  /** What the process does to the world: now, or when it wakes, or (if it is dead) not at all. */
  effect(f: () => void): void {
    if (!this.alive) return
    if (!this.#paused) f()
    else {
      assert(this.#unsent.length < HELD_MAX, `${this.name} holds at most ${HELD_MAX} calls while paused`)
      this.#unsent.push(f)
    }
  }

  onStop(f: () => void): void {
    this.#stopListener = f
  }

  /** It died of an error that nobody caught. */
  crash(error: unknown): void {
    if (!this.alive) return
    this.#sim.crashed(this, error)
    this.end({ code: 1, signal: null }, 'reset')
  }

  /** `silent`: the machine lost power, so nobody is told. */
  end(exit: Exit, connections: 'reset' | 'silent'): void {
    if (!this.alive) return
    this.#exit = exit
    this.#paused = false
    this.#arrived = []
    this.#unsent = []
    this.#sim.emit({
      level: 'decision',
      kind: 'process.dead',
      host: this.host.name,
      body: { process: this.name, incarnation: this.incarnation },
    })
    this.#sim.network.processEnded(this, connections)
    this.host.disk.processEnded(this)
    this.host.reaped(this)
    if (connections === 'reset') this.tree.ended(exit)
  }

  /** One at a time, each in its own event; what arrives meanwhile waits behind. */
  #deliverArrived(): void {
    if (!this.alive || this.#paused) return
    const next = this.#arrived.shift()
    if (next === undefined) return
    if (this.#arrived.length > 0) this.#sim.schedule(0, null, () => this.#deliverArrived())
    this.#sim.enter(this, next)
  }
}
