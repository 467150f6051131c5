// A program of the simulated machine as the process that started it sees it: what it printed, how it ended, and its end by
// a signal.

import { COMMAND_OUTPUT_MAX, type Command, type CommandExit } from '../environment.ts'
import type { Exit, SimProcess } from './process.ts'
import type { CommandOutput, Simulation } from './simulation.ts'

export class SimCommand implements Command, CommandOutput {
  readonly #sim: Simulation
  readonly #parent: SimProcess
  #process: SimProcess | null = null
  #output = ''
  #errors = ''
  #exit: CommandExit | null = null
  #exitListener: ((exit: CommandExit) => void) | null = null
  #outputListener: (text: string) => void = () => undefined

  constructor(sim: Simulation, parent: SimProcess) {
    this.#sim = sim
    this.#parent = parent
  }

  /** 0 while the process that starts it is paused or dead, and so nothing was started. */
  get pid(): number {
    return this.#process?.pid ?? 0
  }

  onExit(f: (exit: CommandExit) => void): void {
    this.#exitListener = f
    this.#tellExit()
  }

  onOutput(f: (text: string) => void): void {
    this.#outputListener = f
  }

  kill(): void {
    this.#parent.effect(() => this.#process?.kill())
  }

  // --- for the program -----------------------------------------------------------------------------------------------

  print(text: string): void {
    this.#output = (this.#output + text).slice(-COMMAND_OUTPUT_MAX)
    this.#parent.later(0, () => this.#outputListener(text))
  }

  printError(text: string): void {
    this.#errors = (this.#errors + text).slice(-COMMAND_OUTPUT_MAX)
  }

  // --- for the parts of the simulation -------------------------------------------------------------------------------

  started(process: SimProcess): void {
    this.#process = process
  }

  exited({ code, signal }: Exit): void {
    this.#exit = { code, signal, output: this.#output, errors: this.#errors }
    this.#tellExit()
  }

  #tellExit(): void {
    const exit = this.#exit
    if (exit === null || this.#exitListener === null) return
    this.#exit = null
    // Not inside the caller's call.
    this.#sim.schedule(0, this.#parent, () => this.#exitListener?.(exit))
  }
}
