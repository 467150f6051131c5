// What operators ask of the coordinator, from outside its process. Each call hears its answer, or that the process to which it was
// put is gone, as a client hears it of its connection.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { SimProcess } from '@stellwerk/runtime/sim/process.ts'
import type { Simulation } from '@stellwerk/runtime/sim/simulation.ts'

/** As of a coordinator that is not there. */
export const AWAY = 'coordinator-away'

export type Outcome<T> = { readonly ok: true; readonly reply: T } | { readonly ok: false; readonly code: string }

export class OperatorCalls {
  readonly #sim: Simulation
  readonly #waiting = new Map<SimProcess, Set<() => void>>()

  constructor(sim: Simulation) {
    this.#sim = sim
    sim.onRecord(({ kind }) => {
      if (kind === 'process.dead' && this.#waiting.size > 0) sim.after(0, () => this.#tellOfDeath())
    })
  }

  put<T>(process: SimProcess, call: () => Promise<T>, then: (outcome: Outcome<T>) => void): void {
    const waiting = this.#waiting.get(process) ?? new Set()
    this.#waiting.set(process, waiting)
    const over = (outcome: Outcome<T>): void => {
      if (!waiting.delete(lost)) return
      if (waiting.size === 0) this.#waiting.delete(process)
      then(outcome)
    }
    const lost = (): void => over({ ok: false, code: AWAY })
    waiting.add(lost)
    if (!process.alive) {
      lost()
      return
    }
    this.#sim.enter(process, () => {
      call().then(
        reply => over({ ok: true, reply }),
        (error: unknown) => over({ ok: false, code: errorCode(error) }),
      )
    })
  }

  #tellOfDeath(): void {
    for (const [process, waiting] of this.#waiting) {
      if (!process.alive) for (const lost of [...waiting]) lost()
    }
  }
}
