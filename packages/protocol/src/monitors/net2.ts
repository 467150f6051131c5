// NET2: once a host's guests have been sent something by a VM in one placement, nothing that an older placement of it has sent
// reaches them: a VM is where it was placed last, also for those who talk to it. Evidence: `network.delivered`; the memory of
// a switch ends with its agent.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  ensure,
  hostOfGuests,
  id,
  type Monitor,
  numberField,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'

export class Net2Monitor implements Monitor {
  readonly rule = 'NET2'
  readonly kinds = ['network.delivered', 'process.dead']
  /** Receiving host → network and MAC → the record of the newest placement. */
  readonly #newest = new Map<string, Map<string, TraceRecord>>()

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind === 'process.dead') {
      const host = hostOfGuests(record)
      if (host !== null) this.#newest.delete(host)
      return null
    }
    const host = id(record, 'host')
    const mac = stringField(record, 'mac')
    const epoch = numberField(record, 'epoch')
    const ofHost = ensure(this.#newest, host, () => new Map<string, TraceRecord>())
    const key = `${stringField(record, 'network')} ${mac}`
    const newest = ofHost.get(key)
    if (newest === undefined || epoch >= numberField(newest, 'epoch')) {
      ofHost.set(key, record)
      return null
    }
    const message =
      `host ${host} gave its guests a frame of ${mac} from placement epoch ${epoch} on ${stringField(record, 'from')}, ` +
      `after it had heard epoch ${numberField(newest, 'epoch')} from ${stringField(newest, 'from')}`
    return violation('NET2', message, now, [newest, record])
  }
}
