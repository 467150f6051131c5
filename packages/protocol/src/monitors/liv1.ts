// LIV1: once faults end and what is needed is up, every VM that should run does, and the cluster is whole again, within
// its budget. Judged when the trace is over: in the last quarter of the window each such VM must have made progress. A VM
// that ever acknowledged anything must acknowledge again; one that never does (no ledger in it) must at least execute.
// Where the cluster was inspected in that quarter, the last inspection must find nothing left of the faults.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { unhealed } from './liv1-state.ts'
import { id, type Monitor, numberField, stringsField, type Violation, violation } from './monitor.ts'

interface Window {
  readonly record: TraceRecord
  readonly from: number
  readonly to: number
  readonly vms: readonly string[]
  readonly stepped: Set<string>
  readonly acknowledged: Set<string>
  inspected: TraceRecord | null
}

export class Liv1Monitor implements Monitor {
  readonly rule = 'LIV1'
  readonly kinds = ['faults.ended', 'guest.acknowledged', 'guest.step', 'cluster.inspected']
  readonly #talkers = new Set<string>()
  #window: Window | null = null

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind === 'faults.ended') {
      const broken = this.finish(now)
      const withinMs = numberField(record, 'withinMs')
      const vms = stringsField(record, 'vms')
      const span = { from: now + 0.75 * withinMs, to: now + withinMs }
      this.#window = { record, ...span, vms, stepped: new Set(), acknowledged: new Set(), inspected: null }
      return broken
    }
    const acknowledged = record.kind === 'guest.acknowledged'
    if (acknowledged) this.#talkers.add(id(record, 'vm'))
    const window = this.#window
    if (window === null || now < window.from || now > window.to) return null
    if (record.kind === 'cluster.inspected') {
      window.inspected = record
      return null
    }
    const seen = acknowledged ? window.acknowledged : window.stepped
    seen.add(id(record, 'vm'))
    return null
  }

  finish(now: number): Violation | null {
    const window = this.#window
    this.#window = null
    if (window === null || now < window.to) return null // Cut short: the budget was not used up, nothing to judge.
    const stuck = window.vms.filter(vm => {
      const seen = this.#talkers.has(vm) ? window.acknowledged : window.stepped
      return !seen.has(vm)
    })
    const budget = Math.round((window.to - window.from) * 4)
    const wrong = window.inspected === null ? [] : unhealed(window.inspected)
    if (stuck.length > 0) wrong.unshift(`${stuck.join(', ')}: no progress`)
    if (wrong.length === 0) return null
    const message = `${wrong.join('; ')}: by the end of the ${budget} ms after faults had ended`
    return violation('LIV1', message, now, [window.record, window.inspected])
  }
}
