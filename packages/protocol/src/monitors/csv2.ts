// CSV2: an extent belongs to one disk, or is shared by count and immutable. Judged by the owner's journaled grants, copies,
// clones and frees, and, where the volume's geometry is given, by where hosts' writes really land: only in extents that one
// disk has, and only if this host has used it. A free says how many disks it leaves the extent with: the owner's count.
//
// An owner that dies between its journal and its record leaves a gap in the evidence. So once the recording process has
// changed or died, what was recorded before can no longer convict, until the next owner says what it found when it
// replayed the journal (`extent.recovered`): that becomes the base, and must not give a granted extent to another disk. An owner
// whose legs close under it opens its journal anew, and finds there what it had no answer for: a clone may have been made, and what
// it was made of deleted.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  ensure,
  field,
  hostOfGuests,
  id,
  type Monitor,
  malformed,
  numberField,
  parentsOf,
  setBounded,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'

/** Ranges kept of what is copied. */
const MAX_COPIES = 4_096
/** Disks whose origin is remembered. */
const MAX_PARENTS = 4_096

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
  /** Who said last, as its new owner, what is in it; null: nobody has in this trace. */
  base: string | null
  /** Extent → who has it → since when. */
  readonly grants: Map<number, Map<string, Grant>>
  readonly freed: Map<number, TraceRecord>
  /** Disk → offset on it → extent. */
  readonly mapped: Map<string, Map<number, number>>
  /** Disk → what it was cloned from. */
  readonly parents: Map<string, string>
}

/** What an owner says of its own. */
const CHANGES: ReadonlySet<string> = new Set(['extent.granted', 'extent.copied', 'extent.freed', 'disk.cloned'])

export class Csv2Monitor implements Monitor {
  readonly rule = 'CSV2'
  readonly kinds: readonly string[]
  readonly #volumes = new Map<string, Volume>()
  readonly #users = new Map<string, Set<string>>()
  /** Ranges that hosts copy to a leg that is catching up. */
  readonly #copies = new Set<string>()
  /** Volume → the highest generation that any of its storages has taken note of. */
  readonly #generations = new Map<string, number>()
  readonly #extentAt: Csv2Options['extentAt']

  constructor(options: Csv2Options = {}) {
    this.#extentAt = options.extentAt
    const grants = [
      ...['extent.granted', 'extent.copied', 'extent.freed', 'extent.recovered'],
      ...['disk.cloned', 'process.dead', 'volume.deleted'],
    ]
    this.kinds =
      options.extentAt === undefined
        ? grants
        : [...grants, 'storage.applied', 'storage.generation', 'disk.invoke', 'mirror.copying', 'mirror.copy']
  }

  observe(record: TraceRecord, now: number): Violation | null {
    if (CHANGES.has(record.kind) && this.#isLate(record)) return null
    switch (record.kind) {
      case 'volume.deleted':
        this.#volumes.delete(id(record, 'volume'))
        this.#generations.delete(id(record, 'volume'))
        return null
      case 'disk.invoke':
      case 'mirror.copying':
        ensure(this.#users, id(record, 'disk'), () => new Set<string>()).add(id(record, 'host'))
        return null
      case 'mirror.copy':
        this.#copies.add(rangeOf(record))
        if (this.#copies.size > MAX_COPIES) this.#copies.delete(this.#copies.values().next().value ?? '')
        return null
      case 'storage.generation': {
        const generation = Math.max(numberField(record, 'generation'), this.#generations.get(id(record, 'volume')) ?? 0)
        this.#generations.set(id(record, 'volume'), generation)
        return null
      }
      case 'storage.applied':
        // What is there already, made equal on another leg.
        if (record.host !== undefined && this.#copies.has(rangeOf(record))) return null
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
      case 'extent.copied':
        return this.#copied(record, now, this.#volume(record))
      case 'disk.cloned':
        cloned(record, this.#volume(record))
        return null
      default:
        return this.#freed(record, now, this.#volume(record))
    }
  }

  /**
   * Of an owner that has been deposed, and slept between its journal's write and its word of it: what it did was in what its
   * successor found.
   */
  #isLate(record: TraceRecord): boolean {
    const base = this.#volumes.get(id(record, 'volume'))?.base ?? null
    return base !== null && base !== record.process
  }

  #volume(record: TraceRecord): Volume {
    const volume = ensure(this.#volumes, id(record, 'volume'), () => ({
      recorder: record.process,
      recorderHost: null,
      life: 0,
      certainSince: 0,
      base: null,
      grants: new Map(),
      freed: new Map(),
      mapped: new Map(),
      parents: new Map(),
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
    const known = new Set([...before.values()].flatMap(holders => [...holders.keys()]))
    for (const [disk, parent] of parentsOf(record)) setBounded(volume.parents, disk, parent, MAX_PARENTS)
    volume.grants.clear()
    volume.freed.clear()
    volume.mapped.clear()
    volume.certainSince = 0 // The base has no gap.
    volume.base = record.process
    let broken: Violation | null = null
    for (const [extent, disk, offset, references] of entries(record)) {
      const other = references > 1 ? undefined : volume.grants.get(extent)?.keys().next().value
      give(volume, extent, disk, offset, record)
      if (other === undefined || other === disk) continue
      const message = `${record.volume}: a new owner found extent ${extent} with ${disk}, but ${other} has it`
      broken ??= violation('CSV2', message, now, [record])
    }
    for (const [extent, holders] of volume.grants) {
      const earlier = before.get(extent)
      const [disk] = holders.keys()
      if (earlier === undefined || broken !== null || [...holders.keys()].some(each => earlier.has(each))) continue
      const [other, grant] = [...earlier][0]!
      const isClone = (name: string): boolean => !known.has(name) && rootOf(volume, name) === rootOf(volume, other)
      if ([...holders.keys()].every(isClone)) continue
      const message = `${record.volume}: a new owner found extent ${extent} with ${disk}, but ${other} has it`
      broken = violation('CSV2', message, now, [grant.record, record])
    }
    return broken
  }

  #granted(record: TraceRecord, now: number, volume: Volume): Violation | null {
    const extent = numberField(record, 'extent')
    const disk = id(record, 'disk')
    const where = field(record, 'offset')
    const offset = typeof where === 'number' ? where : null
    const held = certain(volume, extent)
    const there = offset === null ? undefined : at(volume, disk, offset)
    volume.grants.delete(extent)
    give(volume, extent, disk, offset, record)
    volume.freed.delete(extent)
    if (held !== null) {
      const message = `${record.volume}: extent ${extent} granted to ${disk} while ${held.disk} has it`
      return violation('CSV2', message, now, [held.record, record])
    }
    if (there === undefined || there.extent === extent || there.grant.life < volume.certainSince) return null
    const message = `${record.volume}: extent ${extent} granted for offset ${offset} of ${disk}, where extent ${there.extent} is`
    return violation('CSV2', message, now, [there.grant.record, record])
  }

  /** The disk leaves an extent that it shares for one of its own. */
  #copied(record: TraceRecord, now: number, volume: Volume): Violation | null {
    const disk = id(record, 'disk')
    const from = numberField(record, 'from')
    const left = volume.grants.get(from)?.get(disk)
    take(volume, from, disk)
    const broken = this.#granted(record, now, volume)
    if (broken !== null || left !== undefined || volume.certainSince > 0) return broken
    return violation('CSV2', `${record.volume}: extent ${from} copied for ${disk}, which has it not`, now, [record])
  }

  #freed(record: TraceRecord, now: number, volume: Volume): Violation | null {
    const extent = numberField(record, 'extent')
    const disk = id(record, 'disk')
    const left = field(record, 'left')
    const other = certain(volume, extent, disk)
    const held = volume.grants.get(extent)?.has(disk) === true
    const before = volume.freed.get(extent)
    take(volume, extent, disk)
    const remaining = volume.grants.get(extent)?.size ?? 0
    if (remaining === 0) volume.freed.set(extent, record)
    if (!held && other === null) {
      if (volume.certainSince > 0 && before === undefined) return null // Its grant may be in the gap.
      return violation('CSV2', `${record.volume}: extent ${extent} freed, which nobody has`, now, [before, record])
    }
    if (!held && other !== null) {
      const message = `${record.volume}: extent ${extent} freed for ${disk}, but ${other.disk} has it`
      return violation('CSV2', message, now, [other.record, record])
    }
    if (typeof left !== 'number' || left === remaining || volume.certainSince > 0) return null
    const message = `${record.volume}: extent ${extent} freed for ${disk} counts ${left} more that have it, there are ${remaining}`
    return violation('CSV2', message, now, [other?.record ?? null, record])
  }

  #applied(record: TraceRecord, now: number): Violation | null {
    if (typeof field(record, 'owner') === 'number' || record.host === undefined) return null
    const offset = numberField(record, 'offset')
    const name = id(record, 'volume')
    const first = this.#extentAt?.(name, offset) ?? null
    const last = this.#extentAt?.(name, offset + Math.max(0, numberField(record, 'length') - 1)) ?? null
    // On a leg that was left behind, and has not heard of it: what it holds is of no more use. Once it has, IO3 judges.
    const generation = field(record, 'generation')
    if (typeof generation === 'number' && generation < (this.#generations.get(name) ?? 0)) return null
    const volume = this.#volumes.get(name)
    if (first === null || last === null || volume === undefined) return null
    for (let extent = first; extent <= last; extent++) {
      const holders = volume.grants.get(extent)
      if (holders === undefined) {
        if (volume.certainSince > 0) continue
        const message = `${name}: a write of ${record.host} landed in extent ${extent}, which nobody has`
        return violation('CSV2', message, now, [volume.freed.get(extent), record])
      }
      let one: Grant | null = null
      for (const grant of holders.values()) {
        if (grant.life < volume.certainSince) continue
        if (one !== null) {
          const message = `${name}: a write of ${record.host} landed in extent ${extent}, which ${one.disk} and ${grant.disk} share`
          return violation('CSV2', message, now, [grant.record, record])
        }
        one = grant
      }
      if (one === null || holders.size > 1 || this.#users.get(one.disk)?.has(record.host) === true) continue
      const message = `${name}: a write of ${record.host}, which never used ${one.disk}, landed in its extent ${extent}`
      return violation('CSV2', message, now, [one.record, record])
    }
    return null
  }
}

function rangeOf(record: TraceRecord): string {
  return `${record.volume}/${record.host}/${numberField(record, 'offset')}/${numberField(record, 'length')}`
}

function give(volume: Volume, extent: number, disk: string, offset: number | null, record: TraceRecord): void {
  const holders = ensure(volume.grants, extent, () => new Map<string, Grant>())
  holders.set(disk, { disk, offset, record, life: volume.life })
  if (offset !== null) ensure(volume.mapped, disk, () => new Map<number, number>()).set(offset, extent)
}

function take(volume: Volume, extent: number, disk: string): void {
  const holders = volume.grants.get(extent)
  const grant = holders?.get(disk)
  if (holders === undefined || grant === undefined) return
  holders.delete(disk)
  if (holders.size === 0) volume.grants.delete(extent)
  if (grant.offset !== null) volume.mapped.get(disk)?.delete(grant.offset)
}

/** Somebody (else) who surely has it. */
function certain(volume: Volume, extent: number, but: string | null = null): Grant | null {
  for (const grant of volume.grants.get(extent)?.values() ?? []) {
    if (grant.disk !== but && grant.life >= volume.certainSince) return grant
  }
  return null
}

function at(volume: Volume, disk: string, offset: number): { extent: number; grant: Grant } | undefined {
  const extent = volume.mapped.get(disk)?.get(offset)
  const grant = extent === undefined ? undefined : volume.grants.get(extent)?.get(disk)
  return extent === undefined || grant === undefined ? undefined : { extent, grant }
}

/** From here on the new disk has all that its source has. */
function cloned(record: TraceRecord, volume: Volume): void {
  const disk = id(record, 'disk')
  const name = stringField(record, 'source')
  setBounded(volume.parents, disk, name, MAX_PARENTS)
  const source = volume.mapped.get(name)
  for (const [offset, extent] of source ?? []) give(volume, extent, disk, offset, record)
}

/** What it was cloned from first of all. */
function rootOf({ parents }: Volume, disk: string): string {
  let at = disk
  for (let steps = 0; steps < MAX_PARENTS; steps++) {
    const parent = parents.get(at)
    if (parent === undefined) break
    at = parent
  }
  return at
}

/** `extents`: [extent, disk, offset on the disk, how many have it]. */
function entries(record: TraceRecord): [number, string, number, number][] {
  const list = field(record, 'extents')
  if (!Array.isArray(list)) throw malformed(record, 'the list `extents`')
  return list.map(each => {
    const [extent, disk, offset, references = 1] = Array.isArray(each) ? each : []
    const numbers = typeof extent === 'number' && typeof offset === 'number' && typeof references === 'number'
    if (!numbers || typeof disk !== 'string') {
      throw malformed(record, '`extents`: each an extent, its disk, the offset on it and how many have it')
    }
    return [extent, disk, offset, references]
  })
}
