// What is broken in a cluster, in its directory, written before it is broken and struck out once it is whole again: so that
// anybody can put it right, also when whoever broke it is gone.

import { checkOf } from '@stellwerk/coordinator/api/misfit.ts'
import { closed } from '@stellwerk/protocol/messages/fields.ts'
import { type Static, Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Files } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { FaultRules } from '@stellwerk/runtime/node/faults/fault-rules.ts'
import type { RecordedProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { CHAOS_DIRECTORY } from '../../cluster/fault-seam.ts'
import type { Fault } from '../fault.ts'

const JOURNAL_FILE = `${CHAOS_DIRECTORY}/journal.json`
const LOCK_FILE = `${CHAOS_DIRECTORY}/lock`
/** Broken at once. */
const BROKEN_MAX = 1_000
/** Whoever writes it holds it for so short. */
const LOCK_TRIES = 100
const LOCK_AGAIN_MS = 50

/**
 * A cluster that is started anew is whole: nothing of it stands still, is cut off or has ended. Only bytes that have changed
 * stay what they are, until somebody repairs them.
 */
export async function forgetBroken(files: Files): Promise<void> {
  if ((await files.read(JOURNAL_FILE)) === null) return
  const journal = new Journal(files, async () => undefined)
  for (const { fault, undo } of await journal.read()) {
    if (undo.every(step => step.do !== 'scrub')) await journal.strike(fault.id, async () => undefined)
  }
}

/** Whether anything is on record there as broken. */
export async function isBroken(files: Files): Promise<boolean> {
  return (await new Journal(files, async () => undefined).read()).length > 0
}

/** One step of putting it right; each may be done again without harm. */
export type Undo =
  /** SIGCONT. */
  | { readonly do: 'continue'; readonly processes: readonly RecordedProcess[] }
  /** Started again if it has ended. */
  | { readonly do: 'start'; readonly node: string }
  /** What that leg has is right where the legs differ. */
  | { readonly do: 'scrub'; readonly volume: string; readonly goodLeg: string }
  | { readonly do: 'unpause' | 'start-container'; readonly container: string }
  | {
      readonly do: 'connect'
      readonly container: string
      readonly network: string
      readonly aliases: readonly string[]
    }
  /** Its `tc` discipline goes. */
  | { readonly do: 'unshape'; readonly container: string; readonly device: string }

/** Rules of the fault file (cluster/fault-seam.ts). */
export type Rules = Pick<FaultRules, 'network' | 'disk' | 'clock'>

export interface Broken {
  readonly fault: Fault
  /** Wall time, ms since 1970. */
  readonly since: number
  readonly rules: Rules
  readonly undo: readonly Undo[]
}

const Entry = closed({
  fault: Type.Object({ id: Type.Integer(), kind: Type.String() }, { additionalProperties: true }),
  since: Type.Number(),
  rules: closed({ network: Type.Array(Type.Any()), disk: Type.Array(Type.Any()), clock: Type.Array(Type.Any()) }),
  undo: Type.Array(Type.Object({ do: Type.String() }, { additionalProperties: true })),
})
const JournalSchema = closed({ format: Type.Literal(1), broken: Type.Array(Entry) })
const check = checkOf(JournalSchema)

export class Journal {
  readonly #files: Files
  readonly #sleep: (ms: number) => Promise<void>

  constructor(files: Files, sleep: (ms: number) => Promise<void>) {
    this.#files = files
    this.#sleep = sleep
  }

  /** What is broken, by the ids of the faults. Throws `corrupt-state`. */
  async read(): Promise<readonly Broken[]> {
    const bytes = await this.#files.read(JOURNAL_FILE)
    if (bytes === null) return []
    const where = this.#files.locate(JOURNAL_FILE)
    const hint = 'remove it once nothing of the cluster is broken: `stellwerk down` and `up` start it whole'
    let value: unknown
    try {
      value = JSON.parse(Buffer.from(bytes).toString('utf8'))
    } catch (error) {
      throw new StellwerkError('corrupt-state', 'the journal of faults is no JSON', { where, hint, cause: error })
    }
    const misfit = check(value)
    if (misfit !== null) throw new StellwerkError('corrupt-state', `the journal of faults: ${misfit}`, { where, hint })
    return (value as Static<typeof JournalSchema>).broken as unknown as readonly Broken[]
  }

  /** Durable when it resolves, with `id` for a fault without one (0). Throws `too-much-broken`. */
  add(entry: Broken, then: (all: readonly Broken[]) => Promise<void>): Promise<Broken> {
    return this.#locked(async () => {
      const before = await this.read()
      if (before.length >= BROKEN_MAX) {
        throw new StellwerkError('too-much-broken', `${BROKEN_MAX} faults are there already`, {
          hint: 'heal them first: stellwerk chaos heal',
        })
      }
      const { id } = entry.fault
      const highest = before.reduce((max, { fault }) => Math.max(max, fault.id), 0)
      const added = { ...entry, fault: { ...entry.fault, id: id > 0 ? id : highest + 1 } }
      const all = [...before, added]
      await this.#write(all)
      await then(all)
      return added
    })
  }

  /** `then` sees what is left before it is written. */
  strike(id: number, then: (left: readonly Broken[]) => Promise<void>): Promise<void> {
    return this.#locked(async () => {
      const left = (await this.read()).filter(({ fault }) => fault.id !== id)
      await then(left)
      await this.#write(left)
    })
  }

  async #write(broken: readonly Broken[]): Promise<void> {
    const text = JSON.stringify({ format: 1, broken }, null, 1)
    await this.#files.writeAtomic(JOURNAL_FILE, Buffer.from(`${text}\n`))
  }

  async #locked<T>(f: () => Promise<T>): Promise<T> {
    await this.#files.makeDirectory(CHAOS_DIRECTORY)
    for (let tries = 1; ; tries++) {
      try {
        const lock = await this.#files.lock(LOCK_FILE)
        try {
          return await f()
        } finally {
          lock.release()
        }
      } catch (error) {
        if (errorCode(error) !== 'locked' || tries >= LOCK_TRIES) throw error
      }
      await this.#sleep(LOCK_AGAIN_MS)
    }
  }
}
