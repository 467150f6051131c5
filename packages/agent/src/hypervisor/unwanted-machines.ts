// Machines that an earlier agent has left and that this one can't take over: they are ended, and said to be here until they have.

import type { Survivor } from '../guardian/pipe.ts'
import type { LeftBehind, LeftMachineFacts } from './hypervisor.ts'
import type { StartedProgram } from './qemu/qemu-process.ts'

export class UnwantedMachines implements LeftBehind {
  readonly #ends = new Map<string, { readonly facts: LeftMachineFacts; readonly end: Promise<void> }>()

  constructor(left: readonly (readonly [Survivor, StartedProgram])[]) {
    for (const [{ vm, epoch, until, keep }, process] of left) {
      const end = new Promise<void>(resolve => process.onExit(() => resolve()))
      this.#ends.set(vm, { facts: { vm, epoch, until, instance: keep.instance }, end })
      void end.then(() => this.#ends.delete(vm))
      process.kill()
    }
  }

  all(): readonly LeftMachineFacts[] {
    return [...this.#ends.values()].map(({ facts }) => facts)
  }

  find(vm: string): LeftMachineFacts | null {
    return this.#ends.get(vm)?.facts ?? null
  }

  taken(): void {
    // Nobody is given one of them.
  }

  async end(vm: string): Promise<void> {
    await this.#ends.get(vm)?.end
  }
}
