// NET1: no guest is sent what a host has sent in an epoch that the receiving host knows to be taken from it. Evidence:
// `network.delivered`, made by the receiving switch.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { id, type Monitor, numberField, stringField, type Violation, violation } from './monitor.ts'

export class Net1Monitor implements Monitor {
  readonly rule = 'NET1'
  readonly kinds = ['network.delivered']

  observe(record: TraceRecord, now: number): Violation | null {
    const epoch = numberField(record, 'hostEpoch')
    const heardFrom = numberField(record, 'heardFrom')
    if (heardFrom > 0 && epoch >= heardFrom) return null
    const from = stringField(record, 'from')
    const message =
      `host ${id(record, 'host')} gave its guests a frame that ${from} sent in epoch ${epoch}, ` +
      (heardFrom === 0 ? 'which is no member' : `of which it hears no epoch below ${heardFrom}`)
    return violation('NET1', message, now, [record])
  }
}
