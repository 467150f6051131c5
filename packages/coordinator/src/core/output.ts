// What one step of the core gives back: changes to make durable, then, only then, effects to carry out.

import type { Json, StoreChange, TraceEvent } from '@stellwerk/runtime/environment.ts'
import type { CoordinatorState, DecisionRecord } from './state.ts'

/**
 * The contract: the caller commits all of `changes` in one transaction; when that is durable it carries out `effects` in
 * order. If the commit fails the process ends: nobody has been told anything.
 */
export interface Output {
  readonly changes: StoreChange[]
  readonly effects: Effect[]
}

export type Effect =
  /** To an agent; the answer comes back as an input `answered` with the same key. */
  | {
      readonly kind: 'order'
      readonly key: string
      readonly host: string
      readonly message: string
      readonly body: unknown
    }
  /** To a storage subsystem, directly or relayed; answered likewise. */
  | {
      readonly kind: 'storage'
      readonly key: string
      readonly storage: string
      readonly message: string
      readonly body: unknown
    }
  /** To the owner of a volume, at `host`. */
  | {
      readonly kind: 'owner'
      readonly key: string
      readonly host: string
      readonly volume: string
      readonly message: string
      readonly body: unknown
    }
  /** The answer to a request that came in. */
  | { readonly kind: 'reply'; readonly to: number; readonly body: unknown }
  | {
      readonly kind: 'refuse'
      readonly to: number
      readonly code: string
      readonly message: string
      readonly hint?: string
    }
  /**
   * This one must end: its state is an older copy (`forGood`: whatever becomes of that), or, `replaced`, a higher term has been seen:
   * started again it finds out which of the two it is.
   */
  | { readonly kind: 'step-down'; readonly why: string; readonly forGood?: true; readonly replaced?: true }
  | { readonly kind: 'trace'; readonly event: TraceEvent }

/** Decisions kept in the store; older ones are only in the traces. */
export const DECISIONS_KEPT = 2_000

/** Collects what a step does. Every durable change of the state goes through here, so none can be forgotten. */
export class StepOutput implements Output {
  readonly changes: StoreChange[] = []
  readonly effects: Effect[] = []
  private readonly state: CoordinatorState
  private readonly wallMs: number

  constructor(state: CoordinatorState, wallMs: number) {
    this.state = state
    this.wallMs = wallMs
  }

  get now(): { readonly wallMs: number } {
    return { wallMs: this.wallMs }
  }

  put(table: RecordTable, key: string, value: object): void {
    const records = this.state[table] as Map<string, object>
    records.set(key, value)
    if (table !== 'migrations') this.state.changes += 1
    this.changes.push({ put: `${table}/${key}`, value: value as unknown as Json })
  }

  /** Only of a run that has told nobody of its term. */
  raiseTerm(term: number): void {
    this.state.cluster = { ...this.state.cluster, term }
    this.changes.push({ put: CLUSTER_KEY, value: this.state.cluster as unknown as Json })
  }

  remove(table: RecordTable, key: string): void {
    this.state[table].delete(key)
    this.state.changes += 1
    this.changes.push({ delete: `${table}/${key}` })
  }

  effect(effect: Effect): void {
    this.effects.push(effect)
  }

  /** To be called once, when all changes of the step are there. False: the revision is what it was. */
  revise(isTaken: boolean): boolean {
    this.state.unrevised ||= this.changes.length > 0
    if (!isTaken || !this.state.unrevised) return false
    this.state.unrevised = false
    this.state.revision += 1
    this.changes.push({ put: REVISION_KEY, value: this.state.revision })
    return true
  }

  keep(wanted: (effect: Effect) => boolean): void {
    this.effects.splice(0, this.effects.length, ...this.effects.filter(wanted))
  }

  trace(event: TraceEvent): void {
    this.effects.push({ kind: 'trace', event })
  }

  decide(
    decision: Omit<DecisionRecord, 'seq' | 'wallMs' | 'rejected'> & { rejected?: DecisionRecord['rejected'] },
  ): void {
    const seq = ++this.state.decisionSeq
    const record: DecisionRecord = { rejected: [], ...decision, seq, wallMs: this.wallMs }
    this.changes.push({ put: decisionKey(seq), value: record as unknown as Json })
    if (seq > DECISIONS_KEPT) this.changes.push({ delete: decisionKey(seq - DECISIONS_KEPT) })
    this.trace({ level: 'decision', kind: `decision.${decision.kind}`, body: record as unknown as Json })
  }
}

/** The maps of the state that are durable, record by record. */
export type RecordTable = 'hosts' | 'storages' | 'vms' | 'volumes' | 'migrations' | 'recoveries'
export const RECORD_TABLES: readonly RecordTable[] = ['hosts', 'storages', 'vms', 'volumes', 'migrations', 'recoveries']

export const CLUSTER_KEY = 'cluster'
export const REVISION_KEY = 'revision'

/** Sorts by number as text. */
export function decisionKey(seq: number): string {
  return `decisions/${String(seq).padStart(12, '0')}`
}
