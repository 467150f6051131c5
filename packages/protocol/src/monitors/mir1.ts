// MIR1: legs marked in-sync are equal wherever no write is in flight or intended. Judged where somebody who sees both legs
// has compared them (`mirror.compared`: the simulator, which stops everything first).

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { id, type Monitor, numberField, numbersField, type Violation, violation } from './monitor.ts'

/** Addresses told of those that differ. */
const SHOWN_MAX = 8

export class Mir1Monitor implements Monitor {
  readonly rule = 'MIR1'
  readonly kinds = ['mirror.compared']

  observe(record: TraceRecord, now: number): Violation | null {
    const volume = id(record, 'volume')
    const generation = numberField(record, 'generation')
    const differing = numbersField(record, 'differing')
    if (differing.length === 0) return null
    const shown = differing.slice(0, SHOWN_MAX).join(', ')
    const more = differing.length > SHOWN_MAX ? ` and ${differing.length - SHOWN_MAX} more` : ''
    const message = `${volume} in generation ${generation}: its in-sync legs differ at ${shown}${more}`
    return violation('MIR1', message, now, [record])
  }
}
