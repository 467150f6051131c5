// Feeds the core what a coordinator's trace says it was fed, and compares what it decides with what is on record. Between two
// snapshots the state is the core's own; where the next snapshot comes, the state must be what it says. It reads no files:
// cli/src/trace/replay.ts does.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Input, step } from '../core/core.ts'
import type { CoordinatorState } from '../core/state.ts'
import { SNAPSHOT_FORMAT, snapshotOf, stateOf } from '../snapshot.ts'
import { outlineOf } from './outline.ts'
import { firstDifference, toPlain } from './plain.ts'

/** The core's name on record. */
export const COORDINATOR_CORE = 'coordinator'

/** What is on record of a core; `at` is where, for people. */
export interface CoreRecord {
  readonly kind: 'input' | 'output' | 'snapshot'
  readonly value: Json
  readonly at: string
}

export interface ReplayDifference {
  /** Where on record. */
  readonly at: string
  /** Counts the inputs replayed, from 1. */
  readonly input: number
  /** What was fed; null: the state is not what the snapshot says, after all inputs gave the same. */
  readonly fed: Json
  /** The place in the answer, or in the state, that differs. */
  readonly path: string
  readonly expected: Json | undefined
  readonly got: Json | undefined
}

export interface ReplayCounts {
  /** Runs of the coordinator. */
  runs: number
  snapshots: number
  inputs: number
  /** Inputs that changed something durable or told somebody something. */
  decided: number
  /** Inputs that could not be replayed: what came before them is missing. */
  skipped: number
}

/** As the decider records it. */
export interface FedInput {
  readonly now: number
  readonly wallMs: number
  readonly input: Input
}

interface Pending {
  readonly at: string
  readonly fed: Json
  readonly got: Json
}

export class CoordinatorReplay {
  readonly counts: ReplayCounts = { runs: 0, snapshots: 0, inputs: 0, decided: 0, skipped: 0 }
  #state: CoordinatorState | null = null
  #run: string | null = null
  #pending: Pending | null = null

  /** Null: as it was. After a difference the replay is over. Throws `other-version`, `bad-record`. */
  take({ kind, value, at }: CoreRecord): ReplayDifference | null {
    switch (kind) {
      case 'snapshot':
        return this.#snapshot(value, at)
      case 'input': {
        const found = this.#settle(null)
        this.#feed(value, at)
        return found
      }
      case 'output':
        return this.#settle(value)
    }
  }

  /** The state as it is after what was taken so far; null: it is not known. */
  snapshot(): Json {
    return this.#state === null ? null : snapshotOf(this.#state)
  }

  /** Records are missing here: nothing can be said before the next snapshot. */
  lose(): void {
    this.#state = null
    this.#pending = null
  }

  /** Of a run that was cut short the last answer may be missing, and is not asked for. */
  finish(): void {
    this.#pending = null
  }

  #snapshot(value: Json, at: string): ReplayDifference | null {
    const before = this.#state
    const next = stateOf(value)
    const isNewRun = next.run !== this.#run
    // The last answer of a run that was killed may be missing.
    const found = isNewRun ? null : this.#settle(null)
    this.finish()
    if (found !== null) return found
    this.counts.snapshots += 1
    if (isNewRun) this.counts.runs += 1
    this.#run = next.run
    this.#state = next
    if (isNewRun || before === null) return null
    const expected = (value as { readonly state: Json }).state
    const difference = firstDifference(expected, toPlain(before))
    return difference === null ? null : { at, input: this.counts.inputs, fed: null, ...difference }
  }

  #feed(value: Json, at: string): void {
    if (this.#state === null) {
      this.counts.skipped += 1
      return
    }
    const { now, wallMs, input } = fedInput(value, at)
    const output = step(this.#state, input, now, wallMs)
    const got = outlineOf(output)
    this.counts.inputs += 1
    if (got !== null) this.counts.decided += 1
    this.#pending = { at, fed: toPlain(input), got }
  }

  /** `expected`: what is on record; null: nothing is, so it answered nothing. */
  #settle(expected: Json): ReplayDifference | null {
    const pending = this.#pending
    this.#pending = null
    if (pending === null) return null
    const { at, fed, got } = pending
    const difference = firstDifference(expected, got)
    return difference === null ? null : { at, input: this.counts.inputs, fed, ...difference }
  }
}

function fedInput(value: Json, at: string): FedInput {
  const { now, wallMs, input } = (value ?? {}) as { now?: Json; wallMs?: Json; input?: Json }
  if (typeof now === 'number' && typeof wallMs === 'number' && typeof input === 'object' && input !== null) {
    return { now, wallMs, input: input as unknown as Input }
  }
  throw new StellwerkError('other-version', 'what the coordinator was fed is on record without its time', {
    where: at,
    hint: `replay it with the version of Stellwerk that recorded it (snapshots of format ${SNAPSHOT_FORMAT})`,
  })
}
