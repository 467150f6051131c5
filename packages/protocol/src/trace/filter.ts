// Which records are wanted. First judged on a record's head alone (by hashes, so that it may say yes too often), then, for
// what passed, on the record itself.
import type { TraceLevel, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { familyHash, hashOf, ID_FIELDS, type IdField, LEVELS } from './segment-format.ts'

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
    if (value !== undefined) ids.push({ field, at: 48 + 4 * i, hash: hashOf(value), value })
  }
  const fromMs = filter.fromMs ?? Number.NEGATIVE_INFINITY
  const toMs = filter.toMs ?? Number.POSITIVE_INFINITY
  const timed = filter.fromMs !== undefined || filter.toMs !== undefined

  return {
    head: (bytes, at) => {
      if (levels !== null && levels[bytes[at + 12]!] !== true) return false
      if (
        kinds.length > 0 &&
        !exactHashes.has(bytes.readUInt32LE(at + 44)) &&
        !familyHashes.has(bytes.readUInt16LE(at + 14))
      ) {
        return false
      }
      for (const id of ids) if (bytes.readUInt32LE(at + id.at) !== id.hash) return false
      if (!timed) return true
      const wallMs = bytes.readDoubleLE(at + 16)
      return wallMs >= fromMs && wallMs < toMs
    },
    record: record => {
      if (kinds.length > 0 && !exact.has(record.kind) && !families.has(firstWord(record.kind))) return false
      return ids.every(id => record[id.field] === id.value)
    },
  }
}

function firstWord(kind: string): string {
  const dot = kind.indexOf('.')
  return dot < 0 ? kind : kind.slice(0, dot)
}
