// CSV3: a new extent reads as zeroes. Judged at the grant, where what the extent holds was looked at (`zero`).

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { field, id, type Monitor, numberField, type Violation, violation } from './monitor.ts'

export class Csv3Monitor implements Monitor {
  readonly rule = 'CSV3'
  readonly kinds = ['extent.granted']

  observe(record: TraceRecord, now: number): Violation | null {
    if (field(record, 'zero') !== false) return null
    const message = `${id(record, 'volume')}: extent ${numberField(record, 'extent')} granted to ${id(record, 'disk')} still holds old data`
    return violation('CSV3', message, now, [record])
  }
}
