// The simulated world: virtual time, one queue of events, hosts, a network, a trace. The same seed and the same scenario give
// the same run, event by event. It knows nothing of clusters; scenarios do.

import { AssertionFailure, assert, present } from '../assert.ts'
import type { CommandSpec, Environment, Json, TraceEvent, TraceLevel, TraceRecord } from '../environment.ts'
import { errorCode, errorMessage } from '../errors.ts'
import { checkDrain, drain, inMacrotask, withErrorsTo } from './drain.ts'
import { EventQueue, type SimEvent } from './event-queue.ts'
import { SimHost } from './host.ts'
import { SimNetwork, type SimNetworkOptions } from './network.ts'
import type { SimProcess } from './process.ts'
import { SimRandom } from './random.ts'
import { type Barrier, type BarrierOptions, type CoreInput, SimTraceSink, TraceRecorder } from './trace.ts'

/** What a process runs. Its promise may settle early: a process lives until it exits, is killed or crashes. */
export type Program = (env: Environment, config: Json) => void | Promise<void>

/** What a program of the machine runs: `env.files` is its working directory, and `output` takes what it prints. */
export type CommandProgram = (env: Environment, spec: CommandSpec, output: CommandOutput) => void | Promise<void>

export interface CommandOutput {
  print(text: string): void
  printError(text: string): void
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface SimulationOptions {
  readonly seed: string | number
  readonly network?: SimNetworkOptions
  /** Default: all levels. */
  readonly traceLevels?: readonly TraceLevel[]
  /** How many of the newest records `trace` keeps. Default 200,000. */
  readonly traceKeepMax?: number
  /** Hears what processes log; by default it is dropped. */
  readonly onLog?: (process: string, level: LogLevel, fields: object, message: string) => void
  /** Hears what pure cores are fed. */
  readonly onCoreInput?: (input: CoreInput) => void
  /** Which uncaught errors are bugs and fail the run. Default: assertions and the engine's own errors. */
  readonly isBug?: (error: unknown) => boolean
}

/** A process that died of an uncaught error. */
export interface Crash {
  readonly at: number
  readonly process: string
  readonly host: string
  readonly error: unknown
}

export interface CommitPoint {
  readonly process: SimProcess
  readonly stage: 'before' | 'after'
  readonly keys: readonly string[]
}

/** Time moves in steps of about a microsecond, so that a timer's due time is never missed by a rounding error. */
const TICKS_PER_MS = 1024
/** Events run in one macrotask; then the real event loop gets its turn. */
const BATCH_EVENTS = 8192
/** More events than this at one instant, and time no longer moves: a loop of zero delays. */
const EVENTS_AN_INSTANT_MAX = 1_000_000
/** Crashes kept for a scenario to read. */
const CRASHES_MAX = 10_000

const defaultIsBug = (error: unknown): boolean =>
  error instanceof AssertionFailure ||
  error instanceof TypeError ||
  error instanceof ReferenceError ||
  error instanceof RangeError ||
  // Of node:assert and of test frameworks.
  (error instanceof Error && error.name === 'AssertionError')

/** The run is over: a bug came to light. Names the seed. */
export class SimulationFailure extends Error {
  readonly seed: string
  readonly at: number
  readonly process: string | null

  constructor(seed: string, at: number, process: string | null, cause: unknown) {
    const who = process === null ? 'the scenario' : process
    super(`seed ${seed}, at ${at.toFixed(3)} ms, in ${who}: ${errorMessage(cause)}`, { cause })
    this.name = 'SimulationFailure'
    this.seed = seed
    this.at = at
    this.process = process
    if (cause instanceof Error && cause.stack !== undefined) this.stack = `${this.message}\n${cause.stack}`
  }
}

export class Simulation {
  readonly seed: string
  readonly random: SimRandom
  readonly network: SimNetwork
  readonly recorder: TraceRecorder
  readonly wallStartMs = 1_750_000_000_000
  readonly crashes: Crash[] = []
  readonly #options: SimulationOptions
  readonly #queue = new EventQueue()
  readonly #hosts = new Map<string, SimHost>()
  readonly #programs = new Map<string, Program>()
  readonly #commands = new Map<string, CommandProgram>()
  readonly #commitHooks = new Set<(point: CommitPoint) => void>()
  readonly #sink: SimTraceSink
  #now = 0
  #events = 0
  #instantEvents = 0
  #nextPid = 1000
  #running = false
  /** Whose code runs: every microtask until the next drain ends is blamed on it. */
  #current: SimProcess | null = null
  /** Some code ran that may have queued microtasks. */
  #dirty = false
  #failure: SimulationFailure | null = null

  constructor(options: SimulationOptions) {
    this.#options = options
    this.seed = String(options.seed)
    this.random = new SimRandom(this.seed)
    this.recorder = new TraceRecorder({
      levels: options.traceLevels ?? ['decision', 'message', 'io'],
      keepMax: options.traceKeepMax ?? 200_000,
    })
    this.#sink = new SimTraceSink(this, null, 'simulator')
    this.network = new SimNetwork(this, options.network ?? {})
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /** Virtual milliseconds since the start. */
  get now(): number {
    return this.#now
  }

  /** Events executed so far. */
  get events(): number {
    return this.#events
  }

  /** Runs the scenario's `f` at a time (now, if that has passed). */
  at(timeMs: number, f: () => void): void {
    this.after(Math.max(0, timeMs - this.#now), f)
  }

  after(delayMs: number, f: () => void): void {
    this.schedule(delayMs, null, () => {
      this.#dirty = true
      f()
    })
  }

  /** Lets `ms` of virtual time pass. Rejects with a SimulationFailure when a bug came to light. */
  async runFor(ms: number): Promise<void> {
    await this.#run(this.#now + ms, null)
  }

  /** Until `predicate`, asked after every event that ran code, holds (true) or `limitMs` have passed (false). */
  runUntil(predicate: () => boolean, limitMs: number): Promise<boolean> {
    return this.#run(this.#now + limitMs, predicate)
  }

  async #run(endTime: number, predicate: (() => boolean) | null): Promise<boolean> {
    assert(!this.#running, 'one run of a simulation at a time')
    this.#running = true
    try {
      if (this.#events === 0) await inMacrotask(checkDrain)
      for (;;) {
        const outcome = await inMacrotask(() =>
          withErrorsTo(
            error => this.#uncaught(error),
            () => this.#batch(endTime, predicate),
          ),
        )
        if (outcome !== 'more') return outcome === 'reached'
      }
    } finally {
      this.#running = false
    }
  }

  #batch(endTime: number, predicate: (() => boolean) | null): 'more' | 'reached' | 'end' {
    // The scenario may have entered a process since the last event.
    this.#leave()
    this.#throwFailure()
    if (predicate?.() === true) return 'reached'
    for (let i = 0; i < BATCH_EVENTS; i++) {
      const event = this.#queue.peek()
      if (event === null || event.time > endTime) {
        this.#now = Math.max(this.#now, endTime)
        return 'end'
      }
      this.#queue.pop()
      this.#execute(event)
      if (!this.#dirty) continue
      this.#leave()
      this.#throwFailure()
      if (predicate?.() === true) return 'reached'
    }
    return 'more'
  }

  /** All that the code that ran has begun is done, and no process is entered. */
  #leave(): void {
    if (!this.#dirty) return
    drain()
    this.#dirty = false
    this.#current = null
  }

  #execute(event: SimEvent): void {
    if (event.time > this.#now) {
      this.#now = event.time
      this.#instantEvents = 0
    }
    if (++this.#instantEvents > EVENTS_AN_INSTANT_MAX) {
      this.fail(new AssertionFailure(`more than ${EVENTS_AN_INSTANT_MAX} events at one instant`), event.process)
      this.#throwFailure()
    }
    this.#events++
    this.recorder.hash.number(event.time)
    const run = present(event.run, 'the code of an event')
    event.run = null
    if (event.process !== null) event.process.deliver(run)
    else {
      try {
        run()
      } catch (error) {
        this.fail(error, null)
        this.#throwFailure()
      }
    }
  }

  // --- hosts and programs --------------------------------------------------------------------------------------------

  program(name: string, main: Program): void {
    this.#programs.set(name, main)
  }

  /** A program that is installed on every machine. */
  command(name: string, main: CommandProgram): void {
    this.#commands.set(name, main)
  }

  /** The host of that name, made (switched on) when first asked for. */
  host(name: string): SimHost {
    let host = this.#hosts.get(name)
    if (host === undefined) {
      host = new SimHost(this, name)
      this.#hosts.set(name, host)
    }
    return host
  }

  /** Null when nobody asked for it by `host`. */
  hostNamed(name: string): SimHost | null {
    return this.#hosts.get(name) ?? null
  }

  get hosts(): readonly SimHost[] {
    return [...this.#hosts.values()]
  }

  /** The newest process of that name on any host, dead or alive. */
  process(name: string): SimProcess | null {
    let found: SimProcess | null = null
    for (const host of this.#hosts.values()) {
      const process = host.process(name)
      if (process !== null && (found === null || process.pid > found.pid)) found = process
    }
    return found
  }

  // --- trace ---------------------------------------------------------------------------------------------------------

  /** The newest records, oldest first. */
  get trace(): readonly TraceRecord[] {
    return this.recorder.records
  }

  traceHash(): string {
    return this.recorder.hash.digest()
  }

  onRecord(f: (record: TraceRecord) => void): () => void {
    return this.recorder.listen(f)
  }

  /** `action` runs inside the emitting call, the instant a record of this kind (or that meets the predicate) is made. */
  barrier(
    match: string | ((record: TraceRecord) => boolean),
    action: (record: TraceRecord) => void,
    options: BarrierOptions = {},
  ): Barrier {
    return this.recorder.barrier(match, action, options)
  }

  /** Called before and after every commit of every store; it may kill the process or its host. */
  onCommit(f: (point: CommitPoint) => void): () => void {
    this.#commitHooks.add(f)
    return () => void this.#commitHooks.delete(f)
  }

  /** A record of the simulator's own: ground truth, such as `process.dead` or `faults.ended`. */
  emit(event: TraceEvent): void {
    this.#sink.emit(event)
  }

  // --- for the parts of the simulation -------------------------------------------------------------------------------

  /** A world event when `process` is null; it enters a process only by `SimProcess.deliver`. */
  schedule(delayMs: number, process: SimProcess | null, run: () => void): SimEvent {
    assert(delayMs >= 0 && delayMs < Number.MAX_SAFE_INTEGER, `a delay of ${delayMs} ms`)
    let time = Math.ceil((this.#now + delayMs) * TICKS_PER_MS) / TICKS_PER_MS
    // A delay that is lost in the rounding of the sum is one all the same: who waits for it again and again must get there.
    if (delayMs > 0 && time <= this.#now) time = this.#now + 1 / TICKS_PER_MS
    return this.#queue.push(time, process, run)
  }

  cancel(event: SimEvent): void {
    this.#queue.cancel(event)
  }

  /** Runs code of a process. One event enters one process, so that what its promises do is known to be its doing. */
  enter(process: SimProcess, f: () => void): void {
    if (this.#current !== null && this.#current !== process) {
      this.schedule(0, process, f)
      return
    }
    this.#current = process
    this.#dirty = true
    try {
      f()
    } catch (error) {
      process.crash(error)
    }
  }

  programNamed(name: string): Program {
    return present(this.#programs.get(name), `a program called ${name}; tell the simulation with sim.program()`)
  }

  /** Null: it is not installed. */
  commandNamed(name: string): CommandProgram | null {
    return this.#commands.get(name) ?? null
  }

  takePid(): number {
    return this.#nextPid++
  }

  /** Scenario code (listeners, barriers) runs in here: its exceptions are its own, not the process's. */
  recordMade(record: TraceRecord): void {
    this.#asScenario(() => this.recorder.add(record))
  }

  commitPoint(point: CommitPoint): void {
    if (this.#commitHooks.size === 0) return
    this.#asScenario(() => {
      for (const hook of [...this.#commitHooks]) hook(point)
    })
  }

  get listensToCores(): boolean {
    return this.#options.onCoreInput !== undefined
  }

  coreInput(input: CoreInput): void {
    this.#asScenario(() => this.#options.onCoreInput?.(input))
  }

  log(process: string, level: LogLevel, fields: object, message: string): void {
    this.#options.onLog?.(process, level, fields, message)
  }

  crashed(process: SimProcess, error: unknown): void {
    assert(this.crashes.length < CRASHES_MAX, `at most ${CRASHES_MAX} crashes in a simulation`)
    this.crashes.push({ at: this.#now, process: process.name, host: process.host.name, error })
    this.emit({
      level: 'decision',
      kind: 'process.crashed',
      host: process.host.name,
      body: { process: process.name, code: errorCode(error), message: errorMessage(error) },
    })
    if ((this.#options.isBug ?? defaultIsBug)(error)) this.fail(error, process)
  }

  /** Ends the run; the first failure counts. */
  fail(error: unknown, process: SimProcess | null): void {
    this.#failure ??= new SimulationFailure(this.seed, this.#now, process?.name ?? null, error)
  }

  #asScenario(f: () => void): void {
    try {
      f()
    } catch (error) {
      this.fail(error, null)
    }
  }

  #uncaught(error: unknown): void {
    if (this.#current === null) this.fail(error, null)
    else this.#current.crash(error)
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure
  }
}
