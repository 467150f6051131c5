// RIO2: direct again after: a host whose own path to a leg is back, and not disabled by an operator, does not stay redirected.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { hostOfGuests, id, type Monitor, stringField, type Violation, violation } from './monitor.ts'
import { pathSetOf, REACH_BUDGET_MS, REACH_KINDS, Reach, type ReachOptions } from './reach.ts'

interface Redirected {
  readonly record: TraceRecord
  readonly host: string
  readonly storage: string
  readonly since: number
}

export class Rio2Monitor implements Monitor {
  readonly rule = 'RIO2'
  readonly kinds = [...REACH_KINDS, 'path.redirected', 'path.direct', 'path.paused', 'path.closed']
  readonly #reach = new Reach()
  readonly #budgetMs: number
  /** By host, storage, LUN and role. */
  readonly #redirected = new Map<string, Redirected>()

  constructor({ budgetMs = REACH_BUDGET_MS }: ReachOptions = {}) {
    this.#budgetMs = budgetMs
  }

  observe(record: TraceRecord, now: number): Violation | null {
    this.#reach.observe(record, now)
    switch (record.kind) {
      case 'path.redirected':
      case 'path.direct':
      case 'path.paused':
      case 'path.closed':
        this.#route(record, now)
        return null
      case 'process.dead': {
        const host = hostOfGuests(record)
        for (const [key, each] of this.#redirected) if (each.host === host) this.#redirected.delete(key)
        return null
      }
      case 'reach.observed':
        return this.#judge(record, now)
      default:
        return null
    }
  }

  #route(record: TraceRecord, now: number): void {
    const host = id(record, 'host')
    const storage = stringField(record, 'storage')
    const key = pathSetOf(record)
    const since = this.#redirected.get(key)?.since ?? now
    if (record.kind === 'path.redirected') this.#redirected.set(key, { record, host, storage, since })
    else this.#redirected.delete(key)
  }

  #judge(seen: TraceRecord, now: number): Violation | null {
    for (const { record, host, storage, since } of this.#redirected.values()) {
      const direct = this.#reach.direct(host, storage)
      if (direct === null || now - Math.max(direct, since) <= this.#budgetMs) continue
      const back = Math.round(now - direct)
      const message =
        `host ${host} is still redirected to LUN ${id(record, 'volume')} on ${storage}, ` +
        `though its own path has been good for ${back} ms`
      return violation('RIO2', message, now, [record, seen])
    }
    return null
  }
}
