// VM2: no entry a guest acknowledged is ever lost, reordered or duplicated. Judged outside all hosts: what the observer
// heard acknowledged, one entry after the other, must be on the disk of every later boot. And what is typed to a guest is read once.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { booleanField, ensure, id, type Monitor, numberField, type Violation, violation } from './monitor.ts'

export interface Vm2Options {
  /** The way from the guest to the observer may drop lines, of all or of a VM: entries may go unheard, but never come twice or late. */
  readonly mayMissLines?: boolean | ((vm: string) => boolean)
}

interface Ledger {
  highest: number
  /** The last entry found by the latest boot: entries up to there may have been written without being heard. */
  recovered: number
  last: TraceRecord | null
}

export class Vm2Monitor implements Monitor {
  readonly rule = 'VM2'
  readonly kinds = ['guest.acknowledged', 'guest.recovered', 'terminal.answered']
  readonly #ledgers = new Map<string, Ledger>()
  /** Of each VM the lines that its terminal's operator has typed and its guest has answered. */
  readonly #answered = new Map<string, Map<number, TraceRecord>>()
  readonly #mayMissLines: (vm: string) => boolean

  constructor(options: Vm2Options = {}) {
    const { mayMissLines = false } = options
    this.#mayMissLines = typeof mayMissLines === 'function' ? mayMissLines : () => mayMissLines
  }

  observe(record: TraceRecord, now: number): Violation | null {
    const vm = id(record, 'vm')
    if (record.kind === 'terminal.answered') return this.#answer(vm, record, now)
    const ledger = ensure(this.#ledgers, vm, () => ({ highest: 0, recovered: 0, last: null }))
    const entry = numberField(record, 'entry')
    const before = ledger.last
    if (record.kind === 'guest.recovered') {
      const intact = booleanField(record, 'intact')
      ledger.recovered = entry
      if (!intact) {
        const message = `${vm}: after a boot its entries up to ${entry} are not there once each and in order`
        return violation('VM2', message, now, [before, record])
      }
      if (entry < ledger.highest) {
        const message = `${vm}: lost entries ${entry + 1} to ${ledger.highest}, which it had acknowledged`
        return violation('VM2', message, now, [before, record])
      }
      return null
    }
    if (entry <= ledger.highest) {
      const message = `${vm}: acknowledged entry ${entry} after entry ${ledger.highest}`
      return violation('VM2', message, now, [before, record])
    }
    const expected = ledger.highest + 1
    // Entries the last boot found were written before it; they may be announced late or never.
    const next = Math.max(expected, ledger.recovered + 1)
    ledger.highest = entry
    ledger.last = record
    if (entry <= next || this.#mayMissLines(vm)) return null
    const message = `${vm}: acknowledged entry ${entry} where ${expected === next ? expected : `${expected} to ${next}`} had to come`
    return violation('VM2', message, now, [before, record])
  }

  #answer(vm: string, record: TraceRecord, now: number): Violation | null {
    const answered = ensure(this.#answered, vm, () => new Map<number, TraceRecord>())
    const line = numberField(record, 'line')
    const before = answered.get(line)
    if (before !== undefined) {
      return violation('VM2', `${vm}: line ${line}, typed once, was read a second time`, now, [before, record])
    }
    answered.set(line, record)
    return null
  }
}
