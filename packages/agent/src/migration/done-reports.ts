// Ended migrations that the coordinator has yet to take note of, until it has.

import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import { COORDINATOR } from '../coordinator-name.ts'

export interface MigrationDone {
  readonly migration: string
  readonly vm: string
  readonly statistics: { readonly [name: string]: number }
}

/** Of one that was dropped the coordinator asks again, as it does until it has heard. */
const MAX_DONE = 1_000

interface Teller {
  readonly system: Pick<ActorSystem, 'ask'>
  readonly config: { readonly host: string; readonly incarnation: number }
}

export class DoneReports {
  /** By migration: it may be asked for more than once. */
  readonly #done = new Map<string, MigrationDone>()

  keep(done: MigrationDone): void {
    // What was measured is said once; a later word knows nothing of it.
    if (this.#done.has(done.migration) && Object.keys(done.statistics).length === 0) return
    this.#done.set(done.migration, done)
    const [oldest] = this.#done.keys()
    if (this.#done.size > MAX_DONE && oldest !== undefined) this.#done.delete(oldest)
  }

  /** All that there are; what is not taken is told another time. */
  tell({ system, config }: Teller, deadlineMs: number): void {
    const all = [...this.#done.values()]
    this.#done.clear()
    const { host, incarnation } = config
    for (const done of all) {
      const body = { ...done, host, incarnation }
      system.ask(`${host}/agent`, COORDINATOR, 'migration.done', body, deadlineMs).catch(() => this.keep(done))
    }
  }
}
