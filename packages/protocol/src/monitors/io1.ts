// IO1: a client that lives on sees a linearizable disk, whatever its storage does; a snapshot, and each clone of it, begins as
// its disk was at that moment. Reads the disks' requests out of the
// records; the judging is block-history.ts's.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { BlockHistory, type BlockHistoryOptions, SECTOR_BYTES, type SectorFault } from './block-history.ts'
import {
  ensure,
  field,
  hostOfGuests,
  id,
  type Monitor,
  malformed,
  numberField,
  numbersField,
  parentsOf,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'

export class Io1Monitor implements Monitor {
  readonly rule = 'IO1'
  readonly kinds = [
    'disk.invoke',
    'disk.ok',
    'disk.fail',
    'disk.info',
    'disk.crash',
    'disk.cloned',
    'extent.recovered',
    'volume.deleted',
    'process.dead',
  ]
  readonly #disks = new Map<string, BlockHistory>()
  /** Volume → who was the last to take it over. */
  readonly #owners = new Map<string, string>()
  readonly #options: BlockHistoryOptions

  constructor(options: BlockHistoryOptions = {}) {
    this.#options = options
  }

  /** What was not judged for want of room, over all disks; zero in any run that means something. */
  get givenUp(): number {
    let sum = 0
    for (const disk of this.#disks.values()) sum += disk.givenUp
    return sum
  }

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind === 'process.dead') {
      const host = hostOfGuests(record)
      if (host === null) return null
      for (const disk of this.#disks.values()) disk.loseHost(host, record)
      return this.#report(now)
    }
    if (record.kind === 'volume.deleted') {
      this.#owners.delete(id(record, 'volume'))
      return null
    }
    if (record.kind === 'extent.recovered') {
      this.#owners.set(id(record, 'volume'), record.process)
      // An owner may have died between the journal and the record of a clone; who asked for it holds back what it writes.
      for (const [disk, parent] of parentsOf(record)) if (!this.#disks.has(disk)) this.#fork(disk, parent, null)
      return null
    }
    const name = id(record, 'disk')
    if (record.kind === 'disk.cloned') {
      // A deposed owner that slept between its journal's write and its word of it: its successor has found the disk, and told.
      const owner = this.#owners.get(id(record, 'volume'))
      if (owner !== undefined && owner !== record.process) return null
      const holder = field(record, 'holder')
      this.#fork(name, stringField(record, 'source'), typeof holder === 'string' ? holder : null)
      return null
    }
    const disk = ensure(this.#disks, name, () => new BlockHistory(this.#options))
    if (record.kind === 'disk.crash') disk.crash(record)
    else this.#request(disk, record)
    const [fault] = disk.takeFaults()
    return fault === undefined ? null : toViolation(name, fault, now)
  }

  finish(now: number): Violation | null {
    for (const disk of this.#disks.values()) disk.finish(null)
    return this.#report(now)
  }

  #fork(disk: string, parent: string, holder: string | null): void {
    const source = this.#disks.get(parent)
    if (source !== undefined) this.#disks.set(disk, source.fork(holder))
  }

  #request(disk: BlockHistory, record: TraceRecord): void {
    const host = id(record, 'host')
    const request = field(record, 'request')
    if (typeof request !== 'string' && typeof request !== 'number') throw malformed(record, 'the id `request`')
    const key = `${host} ${request}`
    switch (record.kind) {
      case 'disk.invoke':
        invoke(disk, key, host, record)
        return
      case 'disk.ok':
        disk.ok(key, field(record, 'sectors') === undefined ? null : numbersField(record, 'sectors'), record)
        return
      case 'disk.fail':
        disk.fail(key, record)
        return
      default:
        disk.info(key, record)
    }
  }

  #report(now: number): Violation | null {
    let first: Violation | null = null
    for (const [name, disk] of this.#disks) {
      const [fault] = disk.takeFaults()
      if (fault !== undefined) first ??= toViolation(name, fault, now)
    }
    return first
  }
}

function invoke(disk: BlockHistory, key: string, host: string, record: TraceRecord): void {
  const op = stringField(record, 'op')
  if (op === 'flush') {
    disk.invokeFlush(key)
    return
  }
  const offset = numberField(record, 'offset')
  const length = numberField(record, 'length')
  const first = offset / SECTOR_BYTES
  const count = length / SECTOR_BYTES
  if (!Number.isInteger(first) || !Number.isInteger(count)) {
    throw malformed(record, '`offset` and `length` in whole sectors of 512 bytes')
  }
  const fua = field(record, 'fua') === true
  switch (op) {
    case 'read':
      disk.invoke(key, { op, first, count, values: null, fua, host, record })
      return
    case 'zero':
      disk.invoke(key, { op: 'write', first, count, values: null, fua, host, record })
      return
    case 'trim':
      disk.invoke(key, { op, first, count, values: null, fua, host, record })
      return
    case 'write': {
      const values = numbersField(record, 'sectors')
      if (values.length !== count) throw malformed(record, '`sectors`: one checksum for each sector')
      disk.invoke(key, { op, first, count, values, fua, host, record })
      return
    }
    default:
      throw malformed(record, '`op`: read, write, zero, trim or flush')
  }
}

function toViolation(disk: string, fault: SectorFault, now: number): Violation {
  return { ...violation('IO1', `${disk}: ${fault.message}`, now, fault.records), disk }
}
