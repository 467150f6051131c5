// Which records are wanted. First judged on a record's head alone (by hashes, so that it may say yes too often), then, for
// what passed, on the record itself.
import type { TraceLevel, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { familyHash, hashOf, ID_FIELDS, type IdField, LEVELS, wallOf } from './segment-format.ts'

/** Where a record's head has the hashes of its kind and of its ids. */
const KIND_AT = 44
const IDS_AT = 48

export interface TraceFilter {
  readonly levels?: readonly TraceLevel[]
  /** `vm.run`, or `vm.*` for all whose first word is `vm`. */
  readonly kinds?: readonly string[]
  readonly host?: string
  readonly vm?: string
  readonly volume?: string
  readonly disk?: string
  readonly migration?: string
  /** Wall time, from (inclusive) and to (exclusive), in ms since 1970. */
  readonly fromMs?: number
  readonly toMs?: number
  /** Of those that are the same in this, one of each (and perhaps a few more): to learn what there is. */
  readonly distinct?: IdField | 'kind'
}

export interface CompiledFilter {
  /** May say yes to a record that is not wanted, never no to one that is. */
  head(bytes: Buffer, at: number): boolean
  record(record: TraceRecord): boolean
}

export function compileFilter(filter: TraceFilter): CompiledFilter {
  const levels = filter.levels === undefined ? null : LEVELS.map(level => filter.levels!.includes(level))
  const kinds = filter.kinds ?? []
  for (const kind of kinds) {
    if (/^[^*]+$|^[^.*]+\.\*$/.test(kind)) continue
    const hint = 'give a whole kind (vm.run) or a first word and a star (vm.*)'
    throw new StellwerkError('bad-filter', `not a kind to filter by: ${JSON.stringify(kind)}`, { hint })
  }
  const exact = new Set(kinds.filter(kind => !kind.endsWith('.*')))
  const families = new Set(kinds.filter(kind => kind.endsWith('.*')).map(kind => kind.slice(0, -2)))
  const exactHashes = new Set([...exact].map(hashOf))
  const familyHashes = new Set([...families].map(familyHash))
  const ids: { field: IdField; at: number; hash: number; value: string }[] = []
  for (const [i, field] of ID_FIELDS.entries()) {
    const value = filter[field]
    if (value !== undefined) ids.push({ field, at: IDS_AT + 4 * i, hash: hashOf(value), value })
  }
  const fromMs = filter.fromMs ?? Number.NEGATIVE_INFINITY
  const toMs = filter.toMs ?? Number.POSITIVE_INFINITY
  const timed = filter.fromMs !== undefined || filter.toMs !== undefined

  const isNew = filter.distinct === undefined ? null : distinctBy(filter.distinct)

  return {
    head: (bytes, at) => {
      if (levels !== null && levels[bytes[at + 12]!] !== true) return false
      if (
        kinds.length > 0 &&
        !exactHashes.has(bytes.readUInt32LE(at + KIND_AT)) &&
        !familyHashes.has(bytes.readUInt16LE(at + 14))
      ) {
        return false
      }
      for (const id of ids) if (bytes.readUInt32LE(at + id.at) !== id.hash) return false
      if (timed) {
        const wallMs = wallOf(bytes, at)
        if (wallMs < fromMs || wallMs >= toMs) return false
      }
      return isNew === null || isNew(bytes, at)
    },
    record: record => {
      if (kinds.length > 0 && !exact.has(record.kind) && !families.has(firstWord(record.kind))) return false
      return ids.every(id => record[id.field] === id.value)
    },
  }
}

/** Hashes remembered at most: what is told apart are names. */
const DISTINCT_MAX = 100_000

function distinctBy(field: IdField | 'kind'): (bytes: Buffer, at: number) => boolean {
  const offset = field === 'kind' ? KIND_AT : IDS_AT + 4 * ID_FIELDS.indexOf(field)
  const seen = new Set<number>()
  return (bytes, at) => {
    const hash = bytes.readUInt32LE(at + offset)
    if (hash === 0 || seen.has(hash) || seen.size >= DISTINCT_MAX) return false
    seen.add(hash)
    return true
  }
}

function firstWord(kind: string): string {
  const dot = kind.indexOf('.')
  return dot < 0 ? kind : kind.slice(0, dot)
}
