// CSV2: an extent belongs to one disk. Judged by the owner's journaled grants and frees, and, where the volume's geometry
// is given, by where hosts' writes really land: only in extents granted to a disk that this host has used.
//
// An owner that dies between its journal and its record leaves a gap in the evidence. So once the recording process has
// changed or died, what was recorded before can no longer convict, until the next owner says what it found when it
// replayed the journal (`extent.recovered`): that becomes the base, and must not give a granted extent to another disk.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  ensure,
  field,
  hostOfGuests,
  id,
  type Monitor,
  malformed,
  numberField,
  type Violation,
  violation,
} from './monitor.ts'

export interface Csv2Options {
  /** The extent a byte of a volume belongs to; null for the metadata in front. Without it, writes are not judged. */
  readonly extentAt?: (volume: string, offset: number) => number | null
}

interface Grant {
  readonly disk: string
  /** Where on the disk, if the record says so. */
  readonly offset: number | null
  readonly record: TraceRecord
  /** The recording process's life it was recorded in. */
  readonly life: number
}

interface Volume {
  /** Who records, and which of the successive recorders it is. */
  recorder: string
  recorderHost: string | null
  life: number
  /** The first life from which on the evidence is without a gap. */
  certainSince: number
  readonly grants: Map<number, Grant>
  readonly freed: Map<number, TraceRecord>
  /** Disk → offset on it → extent. */
  readonly mapped: Map<string, Map<number, number>>
}

export class Csv2Monitor implements Monitor {
  readonly rule = 'CSV2'
  readonly kinds: readonly string[]
  readonly #volumes = new Map<string, Volume>()
  readonly #users = new Map<string, Set<string>>()
  readonly #extentAt: Csv2Options['extentAt']

  constructor(options: Csv2Options = {}) {
    this.#extentAt = options.extentAt
    const grants = ['extent.granted', 'extent.freed', 'extent.recovered', 'process.dead']
    this.kinds =
      options.extentAt === undefined ? grants : [...grants, 'storage.applied', 'disk.invoke', 'mirror.copying']
  }

  observe(record: TraceRecord, now: number): Violation | null {
    switch (record.kind) {
      case 'disk.invoke':
      case 'mirror.copying':
        ensure(this.#users, id(record, 'disk'), () => new Set<string>()).add(id(record, 'host'))
        return null
      case 'storage.applied':
        return this.#applied(record, now)
      case 'process.dead': {
        const host = hostOfGuests(record)
        for (const volume of this.#volumes.values()) if (volume.recorderHost === host) this.#newLife(volume)
        return null
      }
      case 'extent.recovered':
        return this.#recovered(record, now, this.#volume(record))
      case 'extent.granted':
        return this.#granted(record, now, this.#volume(record))
      default:
        return this.#freed(record, now, this.#volume(record))
    }
  }

  #volume(record: TraceRecord): Volume {
    const volume = ensure(this.#volumes, id(record, 'volume'), () => ({
      recorder: record.process,
      recorderHost: null,
      life: 0,
      certainSince: 0,
      grants: new Map(),
      freed: new Map(),
      mapped: new Map(),
    }))
    if (volume.recorder !== record.process) this.#newLife(volume)
    volume.recorder = record.process
    const suffix = record.process.lastIndexOf('/agent')
    volume.recorderHost = record.host ?? (suffix === -1 ? null : record.process.slice(0, suffix))
    return volume
  }

  #newLife(volume: Volume): void {
    volume.recorderHost = null
    volume.certainSince = ++volume.life
  }

  #recovered(record: TraceRecord, now: number, volume: Volume): Violation | null {
    const before = new Map(volume.grants)
    volume.grants.clear()
    volume.freed.clear()
    volume.mapped.clear()
    volume.certainSince = 0 // The base has no gap.
    let broken: Violation | null = null
    for (const [extent, disk, offset] of entries(record)) {
      const held = volume.grants.get(extent)
      volume.grants.set(extent, { disk, offset, record, life: volume.life })
      ensure(volume.mapped, disk, () => new Map<number, number>()).set(offset, extent)
      const other = held ?? before.get(extent)
      if (other === undefined || other.disk === disk || broken !== null) continue
      const message = `${record.volume}: a new owner found extent ${extent} with ${disk}, but ${other.disk} has it`
      broken = violation('CSV2', message, now, [other.record, record])
    }
    return broken
  }

  #granted(record: TraceRecord, now: number, volume: Volume): Violation | null {
    const extent = numberField(record, 'extent')
    const disk = id(record, 'disk')
    const where = field(record, 'offset')
    const offset = typeof where === 'number' ? where : null
    const held = volume.grants.get(extent)
    volume.grants.set(extent, { disk, offset, record, life: volume.life })
    volume.freed.delete(extent)
    if (held !== undefined && held.life >= volume.certainSince) {
      const message = `${record.volume}: extent ${extent} granted to ${disk} while ${held.disk} has it`
      return violation('CSV2', message, now, [held.record, record])
    }
    if (offset === null) return null
    const map = ensure(volume.mapped, disk, () => new Map<number, number>())
    const other = map.get(offset)
    map.set(offset, extent)
    const there = other === undefined ? undefined : volume.grants.get(other)
    if (there === undefined || there.disk !== disk || other === extent || there.life < volume.certainSince) return null
    const message = `${record.volume}: extent ${extent} granted for offset ${offset} of ${disk}, where extent ${other} is`
    return violation('CSV2', message, now, [there.record, record])
  }

  #freed(record: TraceRecord, now: number, volume: Volume): Violation | null {
    const extent = numberField(record, 'extent')
    const disk = id(record, 'disk')
    const held = volume.grants.get(extent)
    volume.grants.delete(extent)
    const before = volume.freed.get(extent)
    volume.freed.set(extent, record)
    if (held === undefined) {
      if (volume.certainSince > 0 && before === undefined) return null // Its grant may be in the gap.
      return violation('CSV2', `${record.volume}: extent ${extent} freed, which nobody has`, now, [before, record])
    }
    if (held.offset !== null) volume.mapped.get(held.disk)?.delete(held.offset)
    if (held.disk === disk || held.life < volume.certainSince) return null
    const message = `${record.volume}: extent ${extent} freed for ${disk}, but ${held.disk} has it`
    return violation('CSV2', message, now, [held.record, record])
  }

  #applied(record: TraceRecord, now: number): Violation | null {
    if (typeof field(record, 'owner') === 'number' || record.host === undefined) return null
    const offset = numberField(record, 'offset')
    const name = id(record, 'volume')
    const first = this.#extentAt?.(name, offset) ?? null
    const last = this.#extentAt?.(name, offset + Math.max(0, numberField(record, 'length') - 1)) ?? null
    const volume = this.#volumes.get(name)
    if (first === null || last === null || volume === undefined) return null
    for (let extent = first; extent <= last; extent++) {
      const grant = volume.grants.get(extent)
      if (grant === undefined) {
        if (volume.certainSince > 0) continue
        const message = `${name}: a write of ${record.host} landed in extent ${extent}, which nobody has`
        return violation('CSV2', message, now, [volume.freed.get(extent), record])
      }
      if (grant.life < volume.certainSince || this.#users.get(grant.disk)?.has(record.host) === true) continue
      const message = `${name}: a write of ${record.host}, which never used ${grant.disk}, landed in its extent ${extent}`
      return violation('CSV2', message, now, [grant.record, record])
    }
    return null
  }
}

/** `extents`: [extent, disk, offset on the disk]. */
function entries(record: TraceRecord): [number, string, number][] {
  const list = field(record, 'extents')
  if (!Array.isArray(list)) throw malformed(record, 'the list `extents`')
  return list.map(each => {
    const [extent, disk, offset] = Array.isArray(each) ? each : []
    if (typeof extent !== 'number' || typeof disk !== 'string' || typeof offset !== 'number') {
      throw malformed(record, '`extents`: each an extent, its disk and the offset on it')
    }
    return [extent, disk, offset]
  })
}
