// RIO1: while host N or a peer linked to N has a direct path to a leg, N's I/O to it completes. Evidence: `path.waiting`, said
// by the multipath set itself for as long as something in it waits for an answer.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { field, id, type Monitor, numberField, stringField, type Violation, violation } from './monitor.ts'
import { REACH_BUDGET_MS, REACH_KINDS, Reach, type ReachOptions } from './reach.ts'

export class Rio1Monitor implements Monitor {
  readonly rule = 'RIO1'
  readonly kinds = [...REACH_KINDS, 'path.waiting']
  readonly #reach = new Reach()
  readonly #budgetMs: number

  constructor({ budgetMs = REACH_BUDGET_MS }: ReachOptions = {}) {
    this.#budgetMs = budgetMs
  }

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind !== 'path.waiting') {
      this.#reach.observe(record, now)
      return null
    }
    const host = id(record, 'host')
    const storage = stringField(record, 'storage')
    const oldestMs = numberField(record, 'oldestMs')
    const since = this.#reach.any(host, storage)
    if (since === null || oldestMs <= this.#budgetMs || now - since <= this.#budgetMs) return null
    const as = field(record, 'owner') === true ? ' as its owner' : ''
    const message =
      `host ${host} has waited ${Math.round(oldestMs)} ms for LUN ${id(record, 'volume')} on ${storage}${as}, ` +
      `though it or a peer could reach it for ${Math.round(now - since)} ms`
    return violation('RIO1', message, now, [record])
  }
}
