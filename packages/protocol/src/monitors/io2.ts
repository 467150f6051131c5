// IO2: an acknowledged write survives any one storage subsystem's or host's crash. Judged in two places: nothing is
// acknowledged that has not taken effect, and whatever a power cycle took away (`storage.lost`, found by the simulator,
// which knows what its disks really held) had not been acknowledged.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { ensure, field, id, type Monitor, numberField, stringField, type Violation, violation } from './monitor.ts'

/** Writes per LUN that took effect and were not acknowledged (by FUA) since. */
const MAX_OUTSTANDING = 4096

interface Lun {
  /** `offset:length` → how many writes of exactly this range took effect and await their acknowledgement. */
  readonly applied: Map<string, number>
  count: number
  /** The end of everything that has ever been written. */
  end: number
  /** Writes were forgotten for want of room: what has no match may be one of them, and is let pass. */
  forgot: boolean
}

export class Io2Monitor implements Monitor {
  readonly rule = 'IO2'
  readonly kinds = ['storage.applied', 'storage.acknowledged', 'storage.power-cycled', 'storage.lost', 'volume.deleted']
  readonly #storages = new Map<string, Map<string, Lun>>()
  readonly #powerCycles = new Map<string, TraceRecord>()

  observe(record: TraceRecord, now: number): Violation | null {
    switch (record.kind) {
      case 'storage.applied':
        this.#applied(record)
        return null
      case 'storage.acknowledged':
        return this.#acknowledged(record, now)
      case 'volume.deleted':
        for (const luns of this.#storages.values()) luns.delete(id(record, 'volume'))
        return null
      case 'storage.power-cycled': {
        const storage = stringField(record, 'storage')
        this.#powerCycles.set(storage, record)
        this.#storages.delete(storage)
        return null
      }
      default: {
        const storage = stringField(record, 'storage')
        const message = `${id(record, 'volume')} on ${storage}: ${numberField(record, 'length')} acknowledged bytes at ${numberField(record, 'offset')} did not survive its power cycle`
        return violation('IO2', message, now, [this.#powerCycles.get(storage), record])
      }
    }
  }

  #lun(record: TraceRecord): Lun {
    const luns = ensure(this.#storages, record.process, () => new Map<string, Lun>())
    return ensure(luns, id(record, 'volume'), () => ({ applied: new Map(), count: 0, end: 0, forgot: false }))
  }

  #applied(record: TraceRecord): void {
    // A piece of a zero or trim: what is acknowledged is the whole.
    if (field(record, 'part') === true) return
    const lun = this.#lun(record)
    const offset = numberField(record, 'offset')
    const length = numberField(record, 'length')
    const range = `${offset}:${length}`
    lun.end = Math.max(lun.end, offset + length)
    lun.applied.set(range, (lun.applied.get(range) ?? 0) + 1)
    if (++lun.count <= MAX_OUTSTANDING) return
    for (const [oldest, count] of lun.applied) {
      lun.applied.delete(oldest)
      lun.count -= count
      lun.forgot = true
      break
    }
  }

  #acknowledged(record: TraceRecord, now: number): Violation | null {
    const offset = numberField(record, 'offset')
    const length = numberField(record, 'length')
    const lun = this.#lun(record)
    const range = `${offset}:${length}`
    const count = lun.applied.get(range) ?? 0
    if (count > 0) {
      lun.count--
      if (count === 1) lun.applied.delete(range)
      else lun.applied.set(range, count - 1)
      return null
    }
    // A flush names the whole LUN and no write; a write that raced it still awaits its own acknowledgement.
    if (lun.forgot || (offset === 0 && length >= lun.end)) return null
    const message = `${record.volume} on ${record.process}: ${length} bytes at ${offset} acknowledged, but no such write has taken effect`
    return violation('IO2', message, now, [record])
  }
}
