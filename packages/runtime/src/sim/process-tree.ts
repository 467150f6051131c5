// Parents and children: the pipe between them, and what each learns when the other ends. Without a listener for its
// parent's end, a child ends too (end of file on the pipe); a paused one stays until it wakes or is killed.

import { assert } from '../assert.ts'
import type { Child, Command, CommandSpec, Json, Parent, Processes, ProcessSpec } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { SimCommand } from './command.ts'
import type { Exit, SimProcess } from './process.ts'
import type { Simulation } from './simulation.ts'

/** A message through the pipe; also end of file, and the signal that a child was reaped. */
const PIPE_MS = 0.05
/** Children a process may have at once. */
const CHILDREN_MAX = 10_000

/** Messages kept, on either end, until somebody listens. */
const EARLY_MESSAGES_MAX = 10_000

/** JSON through a pipe: the other side gets its own copy. */
const copyJson = (value: Json): Json => JSON.parse(JSON.stringify(value))

export class ProcessTree {
  readonly parent: SimProcess | null
  readonly #sim: Simulation
  readonly #process: SimProcess
  readonly #children = new Map<SimProcess, ChildHandle>()
  /** Programs of the machine. */
  readonly #commands = new Map<SimProcess, SimCommand>()
  #goneListener: (() => void) | null = null
  #gone = false
  #messageListener: ((message: Json) => void) | null = null
  /** From the parent before somebody listened. */
  #early: Json[] = []

  constructor(sim: Simulation, process: SimProcess, parent: SimProcess | null) {
    this.#sim = sim
    this.#process = process
    this.parent = parent
  }

  get children(): readonly SimProcess[] {
    return [...this.#children.keys()]
  }

  /** The `processes` of the process's environment. */
  processes(): Processes {
    const process = this.#process
    return {
      parent: this.parent === null ? null : this.#parentPipe(this.parent),
      spawn: spec => this.#spawn(spec),
      command: spec => this.#command(spec),
      killLeftovers: () => this.#killLeftovers(),
      exit: code => process.effect(() => process.end({ code, signal: null }, 'reset')),
      onStop: f => process.onStop(f),
    }
  }

  /** This process ended while its machine lives. */
  ended(exit: Exit): void {
    for (const child of this.#children.keys()) {
      this.#sim.schedule(PIPE_MS, null, () => child.tree.parentGone())
    }
    // Whatever they do, and also one that is paused: the kernel sees to it (see node/command.ts).
    for (const program of this.#commands.keys()) this.#sim.schedule(PIPE_MS, null, () => program.kill())
    const { parent } = this
    if (parent === null) return
    const handle = parent.tree.#children.get(this.#process) ?? parent.tree.#commands.get(this.#process)
    if (handle === undefined) return
    // Kept until the parent hears of the end, so that what the child said before it still arrives first.
    parent.later(PIPE_MS, () => {
      parent.tree.#children.delete(this.#process)
      parent.tree.#commands.delete(this.#process)
      handle.exited(exit)
    })
  }

  parentGone(): void {
    this.#process.deliver(() => {
      this.#gone = true
      if (this.#goneListener === null) this.#process.end({ code: 1, signal: null }, 'reset')
      else this.#goneListener()
    })
  }

  #parentPipe(parent: SimProcess): Parent {
    return {
      send: message => {
        const copy = copyJson(message)
        this.#process.effect(() => parent.later(PIPE_MS, () => parent.tree.#children.get(this.#process)?.receive(copy)))
      },
      onMessage: f => {
        this.#messageListener = f
        const early = this.#early.splice(0)
        if (early.length > 0) this.#process.later(0, () => deliverAll(early, this.#messageListener))
      },
      onGone: f => {
        this.#goneListener = f
        if (this.#gone) this.#process.later(0, f)
      },
    }
  }

  #receiveFromParent(message: Json): void {
    if (this.#messageListener !== null) this.#messageListener(message)
    else keepEarly(this.#early, message)
  }

  #spawn(spec: ProcessSpec): Child {
    assert(this.#children.size < CHILDREN_MAX, `at most ${CHILDREN_MAX} children of ${this.#process.name}`)
    const handle = new ChildHandle(this.#sim, this.#process, message => child => {
      child.later(PIPE_MS, () => child.tree.#receiveFromParent(message))
    })
    this.#process.effect(() => {
      const child = this.#process.host.start(spec.program, spec.name, copyJson(spec.config), this.#process)
      this.#children.set(child, handle)
      handle.started(child)
    })
    return handle
  }

  #command(spec: CommandSpec): Command {
    const main = this.#sim.commandNamed(spec.program)
    if (main === null) {
      throw new StellwerkError('no-program', `there is no program '${spec.program}' on a simulated machine`, {
        where: spec.name,
      })
    }
    const command = new SimCommand(this.#sim, this.#process)
    this.#process.effect(() => {
      const child = this.#process.host.startCommand(spec, this.#process, env => main(env, spec, command))
      this.#commands.set(child, command)
      command.started(child)
    })
    return command
  }

  #killLeftovers(): Promise<readonly number[]> {
    return new Promise(resolve => {
      this.#process.effect(() => {
        const killed: number[] = []
        for (const process of this.#process.host.processes) {
          if (process.alive && this.#isLeftover(process)) {
            killed.push(process.pid)
            process.kill()
          }
        }
        this.#process.later(PIPE_MS, () => resolve(killed))
      })
    })
  }

  /** A dead process of our name spawned it. */
  #isLeftover(process: SimProcess): boolean {
    const { parent } = process.tree
    return parent !== null && !parent.alive && parent.name === this.#process.name
  }
}

function keepEarly(early: Json[], message: Json): void {
  assert(early.length < EARLY_MESSAGES_MAX, 'who spawns or is spawned subscribes to messages at once')
  early.push(message)
}

function deliverAll(messages: readonly Json[], listener: ((message: Json) => void) | null): void {
  for (const message of messages) listener?.(message)
}

class ChildHandle implements Child {
  readonly #sim: Simulation
  readonly #parent: SimProcess
  readonly #sendTo: (message: Json) => (child: SimProcess) => void
  #child: SimProcess | null = null
  #exit: Exit | null = null
  #messageListener: ((message: Json) => void) | null = null
  #exitListener: ((exit: Exit) => void) | null = null
  #early: Json[] = []

  constructor(sim: Simulation, parent: SimProcess, sendTo: (message: Json) => (child: SimProcess) => void) {
    this.#sim = sim
    this.#parent = parent
    this.#sendTo = sendTo
  }

  /** 0 while the spawning process is paused or dead, and so nothing was started. */
  get pid(): number {
    return this.#child?.pid ?? 0
  }

  started(child: SimProcess): void {
    this.#child = child
  }

  send(message: Json): void {
    const send = this.#sendTo(copyJson(message))
    this.#parent.effect(() => {
      if (this.#child !== null) send(this.#child)
    })
  }

  onMessage(f: (message: Json) => void): void {
    this.#messageListener = f
    const early = this.#early.splice(0)
    if (early.length > 0) this.#parent.later(0, () => deliverAll(early, this.#messageListener))
  }

  receive(message: Json): void {
    if (this.#messageListener !== null) this.#messageListener(message)
    else keepEarly(this.#early, message)
  }

  onExit(f: (exit: Exit) => void): void {
    this.#exitListener = f
    if (this.#exit !== null) this.#tellExit()
  }

  exited(exit: Exit): void {
    this.#exit = exit
    if (this.#exitListener !== null) this.#tellExit()
  }

  #tellExit(): void {
    const exit = this.#exit
    if (exit === null) return
    this.#exit = null
    // Not inside the caller's call, and never before a message that came first.
    this.#sim.schedule(0, this.#parent, () => this.#exitListener?.(exit))
  }

  kill(): void {
    this.#parent.effect(() => this.#child?.kill())
  }
}
