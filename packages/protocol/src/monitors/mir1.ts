// MIR1: legs marked in-sync are equal wherever no write is in flight or intended, and a scrub never spreads what a leg has
// changed by itself. Judged where somebody who sees both legs, and knows what has rotted, has compared them (the simulator).

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { id, type Monitor, numberField, numbersField, type Violation, violation } from './monitor.ts'

/** Addresses told of those that differ. */
const SHOWN_MAX = 8

export class Mir1Monitor implements Monitor {
  readonly rule = 'MIR1'
  readonly kinds = ['mirror.compared', 'mirror.spoiled']

  observe(record: TraceRecord, now: number): Violation | null {
    const volume = id(record, 'volume')
    const generation = numberField(record, 'generation')
    const isSpoiled = record.kind === 'mirror.spoiled'
    const addresses = numbersField(record, isSpoiled ? 'places' : 'differing')
    if (addresses.length === 0) return null
    const shown = addresses.slice(0, SHOWN_MAX).join(', ')
    const more = addresses.length > SHOWN_MAX ? ` and ${addresses.length - SHOWN_MAX} more` : ''
    const what = isSpoiled
      ? 'a scrub gave the good leg what the other had changed by itself,'
      : 'its in-sync legs differ'
    return violation('MIR1', `${volume} in generation ${generation}: ${what} at ${shown}${more}`, now, [record])
  }
}
