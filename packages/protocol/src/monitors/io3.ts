// IO3: no write of a fenced epoch, of a lower session, owner epoch or generation takes effect. Judged within each storage
// process, whose records are in the order in which it let things happen. A redirected write stands or falls with the epoch
// of the host that sent it: under the epoch of the peer that carries it, no fence of the sender would stop it.

import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { ensure, field, id, type Monitor, numberField, type Violation, violation } from './monitor.ts'

interface HostAtStorage {
  fenced: TraceRecord | null
  fencedEpoch: number
  admitted: TraceRecord | null
  admittedEpoch: number
}

interface HostAtLun {
  incarnation: number
  number: number
  record: TraceRecord
}

interface Lun {
  readonly sessions: Map<string, HostAtLun>
  owner: number
  ownerRecord: TraceRecord | null
  generation: Json | undefined
  generationRecord: TraceRecord | null
}

interface Storage {
  readonly hosts: Map<string, HostAtStorage>
  readonly luns: Map<string, Lun>
}

/** A host's owner connections have sessions of their own. */
function sessionHolder(host: string, owner: boolean): string {
  return owner ? `${host}/owner` : host
}

export class Io3Monitor implements Monitor {
  readonly rule = 'IO3'
  readonly kinds = [
    'storage.applied',
    'storage.fenced',
    'storage.admitted',
    'storage.session',
    'storage.owner',
    'storage.generation',
    'volume.deleted',
  ]
  readonly #storages = new Map<string, Storage>()

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind === 'volume.deleted') {
      for (const { luns } of this.#storages.values()) luns.delete(id(record, 'volume'))
      return null
    }
    const storage = ensure(this.#storages, record.process, () => ({ hosts: new Map(), luns: new Map() }))
    switch (record.kind) {
      case 'storage.applied':
        return record.host === undefined ? null : this.#applied(record, now, storage, record.host)
      case 'storage.fenced': {
        const host = this.#host(storage, id(record, 'host'))
        host.fencedEpoch = Math.max(host.fencedEpoch, numberField(record, 'epoch'))
        host.fenced = record
        return null
      }
      case 'storage.admitted': {
        const name = id(record, 'host')
        const host = this.#host(storage, name)
        const epoch = numberField(record, 'epoch')
        // Sessions count within an epoch.
        if (epoch > host.admittedEpoch) {
          for (const { sessions } of storage.luns.values())
            for (const owner of [false, true]) sessions.delete(sessionHolder(name, owner))
        }
        host.admittedEpoch = Math.max(host.admittedEpoch, epoch)
        host.admitted = record
        return null
      }
      case 'storage.session':
        this.#session(
          record,
          this.#lun(storage, record),
          sessionHolder(id(record, 'host'), field(record, 'owner') === true),
        )
        return null
      case 'storage.owner': {
        const lun = this.#lun(storage, record)
        const owner = numberField(record, 'owner')
        if (owner <= lun.owner) return null
        lun.owner = owner
        lun.ownerRecord = record
        return null
      }
      default: {
        const lun = this.#lun(storage, record)
        lun.generation = field(record, 'generation')
        lun.generationRecord = record
        return null
      }
    }
  }

  #applied(record: TraceRecord, now: number, storage: Storage, host: string): Violation | null {
    if (field(record, 'via') === host) {
      return this.#broken(record, now, `the epoch of host ${host}, which only carries it for another`, null)
    }
    const at = storage.hosts.get(host)
    if (at !== undefined) {
      const epoch = numberField(record, 'epoch')
      if (epoch <= at.fencedEpoch) {
        return this.#broken(record, now, `epoch ${epoch}, fenced up to ${at.fencedEpoch}`, at.fenced)
      }
      if (at.admitted !== null && epoch !== at.admittedEpoch) {
        return this.#broken(record, now, `epoch ${epoch} where ${at.admittedEpoch} is admitted`, at.admitted)
      }
    }
    const lun = this.#lun(storage, record)
    const holder = sessionHolder(host, typeof field(record, 'owner') === 'number')
    const known = lun.sessions.get(holder)
    const lower = this.#session(record, lun, holder)
    if (lower !== null) return this.#broken(record, now, lower, known?.record ?? null)
    const owner = field(record, 'owner')
    if (typeof owner === 'number' && owner < lun.owner) {
      return this.#broken(record, now, `owner epoch ${owner} where ${lun.owner} is in force`, lun.ownerRecord)
    }
    if (lun.generationRecord === null) return null
    const generation = field(record, 'generation')
    if (generation === lun.generation || JSON.stringify(generation) === JSON.stringify(lun.generation)) return null
    const what = `generation ${JSON.stringify(generation)} where ${JSON.stringify(lun.generation)} is in force`
    return this.#broken(record, now, what, lun.generationRecord)
  }

  /** Raises the host's session at the LUN; says so if this record's is lower. */
  #session(record: TraceRecord, lun: Lun, holder: string): string | null {
    const session = field(record, 'session')
    if (!Array.isArray(session)) return null
    const [incarnation, number] = session as readonly Json[]
    if (typeof incarnation !== 'number' || typeof number !== 'number') return null
    const known = lun.sessions.get(holder)
    if (known === undefined) {
      lun.sessions.set(holder, { incarnation, number, record })
      return null
    }
    if (incarnation === known.incarnation && number === known.number) return null
    if (incarnation > known.incarnation || (incarnation === known.incarnation && number > known.number)) {
      known.incarnation = incarnation
      known.number = number
      known.record = record
      return null
    }
    return `session ${incarnation}.${number} where ${known.incarnation}.${known.number} is in force`
  }

  #broken(record: TraceRecord, now: number, what: string, because: TraceRecord | null): Violation {
    const message = `${record.volume} on ${record.process}: a write of ${record.host} took effect with ${what}`
    return violation('IO3', message, now, [because, record])
  }

  #host(storage: Storage, host: string): HostAtStorage {
    return ensure(storage.hosts, host, () => ({
      fenced: null,
      fencedEpoch: Number.NEGATIVE_INFINITY,
      admitted: null,
      admittedEpoch: Number.NEGATIVE_INFINITY,
    }))
  }

  #lun(storage: Storage, record: TraceRecord): Lun {
    return ensure(storage.luns, id(record, 'volume'), () => ({
      sessions: new Map(),
      owner: Number.NEGATIVE_INFINITY,
      ownerRecord: null,
      generation: undefined,
      generationRecord: null,
    }))
  }
}
