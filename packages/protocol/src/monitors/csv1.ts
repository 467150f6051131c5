// CSV1: a volume has at most one owner whose writes take effect. Judged where they do: per LUN, writes made as owner
// never go back in owner epoch, and one owner epoch has one host.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { ensure, field, id, type Monitor, numberField, type Violation, violation } from './monitor.ts'

interface Lun {
  owner: number
  /** The host that has written as this owner, once one has. */
  host: string | null
  record: TraceRecord | null
}

export class Csv1Monitor implements Monitor {
  readonly rule = 'CSV1'
  readonly kinds = ['storage.applied', 'storage.owner', 'volume.deleted']
  readonly #storages = new Map<string, Map<string, Lun>>()

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind === 'volume.deleted') {
      for (const luns of this.#storages.values()) luns.delete(id(record, 'volume'))
      return null
    }
    const announced = record.kind === 'storage.owner'
    const owner = announced ? numberField(record, 'owner') : field(record, 'owner')
    if (typeof owner !== 'number') return null
    const volume = id(record, 'volume')
    const luns = ensure(this.#storages, record.process, () => new Map<string, Lun>())
    const lun = ensure(luns, volume, () => ({ owner, host: null, record: null }))
    if (owner > lun.owner) {
      lun.owner = owner
      lun.host = null
    }
    const host = announced ? lun.host : id(record, 'host')
    if (owner < lun.owner) {
      if (announced) return null // A late announcement: nothing took effect.
      const message = `${volume} on ${record.process}: a write of ${host} as owner ${owner} took effect after owner ${lun.owner}`
      return violation('CSV1', message, now, [lun.record, record])
    }
    const before = lun.record
    if (lun.host !== null && host !== lun.host) {
      const message = `${volume} on ${record.process}: ${lun.host} and ${host} both write as owner ${owner}`
      return violation('CSV1', message, now, [before, record])
    }
    lun.host = host
    lun.record = record
    return null
  }
}
