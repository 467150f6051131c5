// Machines that an earlier agent has left and that this one can't take over: they are ended, and said to be here until they have.

import type { Survivor } from '../guardian/pipe.ts'
import type { LeftBehind } from './hypervisor.ts'
import type { StartedProgram } from './qemu/qemu-process.ts'

export class UnwantedMachines implements LeftBehind {
  readonly #ends = new Map<string, Promise<void>>()

  constructor(left: readonly (readonly [Survivor, StartedProgram])[]) {
    for (const [{ vm }, process] of left) {
      const end = new Promise<void>(resolve => process.onExit(() => resolve()))
      this.#ends.set(vm, end)
      void end.then(() => this.#ends.delete(vm))
      process.kill()
    }
  }

  vms(): readonly string[] {
    return [...this.#ends.keys()]
  }

  /** Nobody is given one of them. */
  instance(): null {
    return null
  }

  async end(vm: string): Promise<void> {
    await this.#ends.get(vm)
  }
}
