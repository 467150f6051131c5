// Waits for what the coordinator decided on a migration: it is told, and until then it asks. Used by both sides.

import type { Timer } from '@stellwerk/runtime/environment.ts'
import type { VmActor } from '../vm/vm-actor.ts'

export type Outcome = 'committed' | 'aborted'

/** Asks at once, then again after a pause, until `settle` is called. */
export class OutcomeAsker {
  readonly #vm: VmActor
  readonly #ask: () => Promise<unknown>
  readonly #decided: (outcome: Outcome) => void
  #timer: Timer | null = null
  #over = false

  constructor(vm: VmActor, ask: () => Promise<unknown>, decided: (outcome: Outcome) => void) {
    this.#vm = vm
    this.#ask = ask
    this.#decided = decided
    this.#go()
  }

  settle(): void {
    this.#over = true
    this.#timer?.cancel()
  }

  #go(): void {
    if (this.#over) return
    this.#vm.task(
      this.#ask(),
      reply => {
        const { outcome } = reply as { outcome: Outcome | 'pending' }
        if (this.#over) return
        if (outcome === 'pending') this.#again()
        else this.#decided(outcome)
      },
      // The coordinator is away or has no answer yet: the other side of the switch-over waits as long.
      () => this.#again(),
    )
  }

  #again(): void {
    if (this.#over) return
    const { env, settings } = this.#vm.parts
    this.#timer = env.timers.after(settings().heartbeatMs / 2, () => this.#go())
  }
}
