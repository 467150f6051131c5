// The state store of a simulated process: a commit is one step, on stable storage when it returns. A scenario may let the
// process or its machine die right before or right after any commit.

import { present } from '../assert.ts'
import type { Json, Store, StoreChange } from '../environment.ts'
import type { SimProcess } from './process.ts'
import type { Simulation } from './simulation.ts'
import type { StoredEntries } from './stored-entries.ts'

/** Frozen all through, so that nobody changes stored state but by `commit`. */
function frozenCopy(key: string, value: Json): Json {
  return freeze(JSON.parse(present(JSON.stringify(value) as string | undefined, `a JSON value for ${key}`)))
}

function freeze(value: Json): Json {
  if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) freeze(part)
    Object.freeze(value)
  }
  return value
}

export class SimStore implements Store {
  readonly #sim: Simulation
  readonly #process: SimProcess
  readonly #entries: StoredEntries

  constructor(sim: Simulation, process: SimProcess) {
    this.#sim = sim
    this.#process = process
    this.#entries = process.host.disk.directory(process.name).store
  }

  get(key: string): Json | undefined {
    return this.#entries.get(key)
  }

  entries(prefix: string): readonly (readonly [string, Json])[] {
    return this.#entries.withPrefix(prefix)
  }

  commit(changes: readonly StoreChange[]): void {
    if (!this.#process.alive) return
    const keys = changes.map(change => ('put' in change ? change.put : change.delete))
    this.#sim.commitPoint({ process: this.#process, stage: 'before', keys })
    if (!this.#process.alive) return
    this.#process.host.disk.commitFault(this.#process)
    // Copied before anything is changed: a value that is no JSON must leave nothing half done.
    const copies = changes.map(change => ('put' in change ? frozenCopy(change.put, change.value) : null))
    changes.forEach((change, index) => {
      if ('put' in change) this.#entries.set(change.put, copies[index] ?? null)
      else this.#entries.delete(change.delete)
    })
    this.#sim.commitPoint({ process: this.#process, stage: 'after', keys })
  }
}
