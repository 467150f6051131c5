// RIO1: while host N or a peer linked to N has a direct path to a leg, N's I/O to it completes. Evidence: `path.waiting`, said
// by the multipath set itself for as long as something in it waits for an answer. A leg that was taken away is none: who has not
// heard of that yet, as the coordinator cannot reach it, may not count a write as done without it.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  field,
  hostOfGuests,
  id,
  type Monitor,
  numberField,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'
import { pathSetOf, REACH_BUDGET_MS, REACH_KINDS, Reach, type ReachOptions } from './reach.ts'

/** Said of a LUN that is there, or of which the host knows that it is not. */
const SETTLES: ReadonlySet<string> = new Set(['path.direct', 'path.redirected', 'path.closed'])

/** So long a host may not have heard of a deletion: seeds' clusters fence one that is cut off for less (`isolatedMs`). */
const UNHEARD_MS = 30_000

/** One that a host has gone to. */
interface SeenLun {
  readonly host: string
  readonly lun: string
  readonly storage: string
  /** When, if the host has neither been told of that since nor reached another of the name; null: it is there. */
  deletedAt: number | null
}

export class Rio1Monitor implements Monitor {
  readonly rule = 'RIO1'
  readonly kinds = [...REACH_KINDS, ...SETTLES, 'path.waiting', 'storage.lun-deleted']
  readonly #reach = new Reach()
  readonly #luns = new Map<string, SeenLun>()
  readonly #budgetMs: number

  constructor({ budgetMs = REACH_BUDGET_MS }: ReachOptions = {}) {
    this.#budgetMs = budgetMs
  }

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind !== 'path.waiting') {
      this.#reach.observe(record, now)
      this.#noteLuns(record, now)
      return null
    }
    const host = id(record, 'host')
    const storage = stringField(record, 'storage')
    const oldestMs = numberField(record, 'oldestMs')
    const since = this.#reach.any(host, storage)
    const deletedAt = this.#luns.get(pathSetOf(record))?.deletedAt ?? null
    if (deletedAt !== null && now - deletedAt <= UNHEARD_MS) return null
    if (since === null || oldestMs <= this.#budgetMs || now - since <= this.#budgetMs) return null
    const as = field(record, 'owner') === true ? ' as its owner' : ''
    const message =
      `host ${host} has waited ${Math.round(oldestMs)} ms for LUN ${id(record, 'volume')} on ${storage}${as}, ` +
      `though it or a peer could reach it for ${Math.round(now - since)} ms`
    return violation('RIO1', message, now, [record])
  }

  #noteLuns(record: TraceRecord, now: number): void {
    const { kind } = record
    if (SETTLES.has(kind)) {
      // A set that is replaced closes after its successor has opened: closed or not is not told by these.
      const ids = { host: id(record, 'host'), lun: id(record, 'volume'), storage: stringField(record, 'storage') }
      this.#luns.set(pathSetOf(record), { ...ids, deletedAt: null })
    } else if (kind === 'process.dead') {
      const host = hostOfGuests(record)
      for (const [key, each] of this.#luns) if (each.host === host) this.#luns.delete(key)
    } else if (kind === 'storage.lun-deleted') {
      const [lun, storage] = [id(record, 'volume'), stringField(record, 'storage')]
      for (const each of this.#luns.values()) if (each.lun === lun && each.storage === storage) each.deletedAt = now
    }
  }
}
