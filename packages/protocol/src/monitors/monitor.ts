// The shapes of rule monitors: what one is fed, and what it says when a rule of docs/SPEC.md is broken. No rule is here.

import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export const RULES = [
  'VM1',
  'VM2',
  'MIG1',
  'MIG2',
  'MIG3',
  'CSV1',
  'CSV2',
  'CSV3',
  'IO1',
  'IO2',
  'IO3',
  'MIR1',
  'RIO1',
  'RIO2',
  'FEN1',
  'FEN2',
  'NET1',
  'NET2',
  'LIV1',
] as const

export type RuleId = (typeof RULES)[number]

/** Names one record of a trace. */
export interface Evidence {
  readonly process: string
  readonly seq: number
  readonly kind: string
}

export interface Violation {
  readonly rule: RuleId
  /** One sentence: what was seen that must not be. */
  readonly message: string
  /** On the timeline the monitors were fed with. */
  readonly at: number
  /** The records that prove it, the last one being the one that broke the rule. */
  readonly records: readonly Evidence[]
  readonly vm?: string
  readonly host?: string
  readonly volume?: string
  readonly disk?: string
  readonly migration?: string
}

/**
 * One rule's judge. It is fed every record of its kinds in the trace's order (which respects cause and effect) and must
 * be deterministic: the same records give the same violations.
 */
export interface Monitor {
  readonly rule: RuleId
  readonly kinds: readonly string[]
  /** `now` is the instant of the record on one timeline common to all processes (`record.at` is each process's own). */
  observe(record: TraceRecord, now: number): Violation | null
  /** The trace is over. */
  finish?(now: number): Violation | null
}

export function violation(
  rule: RuleId,
  message: string,
  at: number,
  records: readonly (TraceRecord | null | undefined)[],
): Violation {
  const proof = records.filter(record => record !== null && record !== undefined)
  const last = proof.at(-1)
  return {
    rule,
    message,
    at,
    records: proof.map(({ process, seq, kind }) => ({ process, seq, kind })),
    ...(last?.vm === undefined ? {} : { vm: last.vm }),
    ...(last?.host === undefined ? {} : { host: last.host }),
    ...(last?.volume === undefined ? {} : { volume: last.volume }),
    ...(last?.disk === undefined ? {} : { disk: last.disk }),
    ...(last?.migration === undefined ? {} : { migration: last.migration }),
  }
}

// --- reading records -------------------------------------------------------------------------------------------------
// A record without what its kind demands is an error, never skipped: a monitor that skips judges nothing.

export function malformed(record: TraceRecord, what: string): StellwerkError {
  return new StellwerkError('bad-record', `a ${record.kind} record must carry ${what}`, {
    where: `${record.process} #${record.seq}`,
    hint: 'docs/SPEC.md lists what each kind of trace record carries',
  })
}

export function id(record: TraceRecord, key: 'host' | 'vm' | 'volume' | 'disk' | 'migration'): string {
  const value = record[key]
  if (value === undefined) throw malformed(record, `\`${key}\``)
  return value
}

export function field(record: TraceRecord, key: string): Json | undefined {
  const body = record.body
  if (typeof body !== 'object' || body === null) throw malformed(record, 'a body')
  return (body as { readonly [key: string]: Json })[key]
}

export function numberField(record: TraceRecord, key: string): number {
  const value = field(record, key)
  if (typeof value !== 'number') throw malformed(record, `the number \`${key}\``)
  return value
}

/** How long before its record what it tells of was, where it is told in sums. */
export function agoMs(record: TraceRecord): number {
  return field(record, 'agoMs') === undefined ? 0 : numberField(record, 'agoMs')
}

export function stringField(record: TraceRecord, key: string): string {
  const value = field(record, key)
  if (typeof value !== 'string') throw malformed(record, `the string \`${key}\``)
  return value
}

export function booleanField(record: TraceRecord, key: string): boolean {
  const value = field(record, key)
  if (typeof value !== 'boolean') throw malformed(record, `\`${key}\`: true or false`)
  return value
}

export function stringsField(record: TraceRecord, key: string): readonly string[] {
  const value = field(record, key)
  if (!Array.isArray(value) || !value.every(each => typeof each === 'string'))
    throw malformed(record, `the list \`${key}\``)
  return value
}

export function numbersField(record: TraceRecord, key: string): readonly number[] {
  const value = field(record, key)
  if (!Array.isArray(value) || (value.length > 0 && typeof value[0] !== 'number')) {
    throw malformed(record, `the list of numbers \`${key}\``)
  }
  return value as readonly number[]
}

/**
 * The host all of whose guests end (or stand still) with the process that this `process.*` record names, for guests live
 * in the agent; null if it is another kind of process. A guardian's death ends its agent too, which has its own record.
 */
export function hostOfGuests(record: TraceRecord): string | null {
  const host = record.host
  if (host === undefined) return null
  const process = stringField(record, 'process')
  return process === host || process === `${host}/agent` ? host : null
}

/** Of a `vm.run`: its machine is a process of its own, and does not end with its agent. */
export function isOwn(record: TraceRecord): boolean {
  return field(record, 'own') === true
}

/**
 * Machines that a record says have ended: all that lived in the process of the host's agent; all that were processes of their own
 * (`own` of `vm.run`), which end with the host's guardian at the latest; or that of one VM. Null: it says no such thing.
 */
export function machinesEnded(
  record: TraceRecord,
): { readonly host: string; readonly of: 'agent' | 'host' } | { readonly host: string; readonly vm: string } | null {
  const { host, kind } = record
  if (host === undefined) return null
  if (kind === 'machine.reaped') return { host, vm: id(record, 'vm') }
  if (kind !== 'process.dead') return null
  const process = stringField(record, 'process')
  if (process === `${host}/agent`) return { host, of: 'agent' }
  if (process === host || process === `${host}/guardian`) return { host, of: 'host' }
  return process.endsWith('/qemu') ? { host, vm: process.slice(0, -'/qemu'.length) } : null
}

/** Of what an owner found (`extent.recovered`): each disk that was cloned, and what it was cloned from. */
export function parentsOf(record: TraceRecord): readonly (readonly [disk: string, parent: string])[] {
  const pairs = field(record, 'parents')
  if (pairs === undefined) return []
  if (!Array.isArray(pairs)) throw malformed(record, '`parents`: pairs of a disk and its parent')
  return pairs as [string, string][]
}

/** Adds to a map of bounded size; the oldest entry makes room. */
export function setBounded<K, V>(map: Map<K, V>, key: K, value: V, bound: number): void {
  map.set(key, value)
  if (map.size > bound) {
    for (const oldest of map.keys()) {
      map.delete(oldest)
      break
    }
  }
}

/** The value at a key, made when it is not there. */
export function ensure<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}
