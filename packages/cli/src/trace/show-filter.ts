// What of a trace is wanted, as its options say; and, where nothing was found, which of the words is unknown.

import type { TraceFilter } from '@stellwerk/protocol/trace/filter.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import { ID_FIELDS, type IdField, LEVELS } from '@stellwerk/protocol/trace/segment-format.ts'
import type { TraceLevel } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import type { Input, OptionSpec } from '../command-line/command.ts'
import { oneOf } from '../command-line/values.ts'
import { parseInstant } from './show-times.ts'
import { processesOf, type TraceSource } from './source.ts'

/** What records are chosen by, besides processes, levels and times. */
export const ABOUT = {
  kind: { type: 'string', multiple: true, value: 'K', help: 'only vm.run, or vm.* for a family' },
  host: { type: 'string', value: 'H', help: 'about this host' },
  vm: { type: 'string', value: 'VM', help: 'about this VM' },
  volume: { type: 'string', value: 'V', help: 'about this volume' },
  disk: { type: 'string', value: 'D', help: 'about this disk' },
  migration: { type: 'string', value: 'ID', help: 'about this migration' },
} as const satisfies { readonly [name: string]: OptionSpec }

export const PROCESS: OptionSpec = {
  type: 'string',
  multiple: true,
  value: 'P',
  help: 'only of this process: coordinator, host-a/agent, …',
}

export const TIMES: { readonly since: OptionSpec; readonly until: OptionSpec } = {
  since: { type: 'string', value: 'T', help: 'from then on: 5m ago, or 14:02:13, or 2026-01-02T14:02:13Z (UTC)' },
  until: { type: 'string', value: 'T', help: 'before then' },
}

/** From (inclusive) and to (exclusive), wall time. */
export type TraceSpan = Pick<TraceFilter, 'fromMs' | 'toMs'>

/** Throws `bad-word`, `bad-time`. A kind that is named is looked for at every level. `usual`: what is shown unless asked. */
export async function filterOf(source: TraceSource, input: Input, usual: TraceLevel): Promise<TraceFilter> {
  const kinds = input.texts('kind')
  const finest = kinds.length > 0 ? 'io' : usual
  const levels = levelsUpTo(input.text('level') ?? finest)
  const ids: Record<string, string> = {}
  for (const field of ID_FIELDS) {
    const value = input.text(field)
    if (value !== undefined) ids[field] = value
  }
  return { levels, ...(kinds.length === 0 ? {} : { kinds }), ...ids, ...(await spanOf(source, input)) }
}

/** Throws `bad-word`. */
export function levelsUpTo(name: string): TraceLevel[] {
  return LEVELS.slice(0, LEVELS.indexOf(oneOf('level', name, LEVELS)) + 1)
}

export async function spanOf(source: TraceSource, input: Input): Promise<TraceSpan> {
  const since = input.text('since')
  const until = input.text('until')
  if (since === undefined && until === undefined) return {}
  // Of what lies elsewhere, nobody knows how long ago it was.
  const endMs = source.file === null ? await endOf(source) : createClock().wall()
  const fromMs = since === undefined ? undefined : parseInstant('since', since, endMs)
  const toMs = until === undefined ? undefined : parseInstant('until', until, endMs)
  if (fromMs !== undefined && toMs !== undefined && fromMs >= toMs) {
    throw new StellwerkError('bad-time', 'nothing lies between --since and --until', {
      where: `--since ${since} --until ${until}`,
      hint: 'the first must be the earlier one',
    })
  }
  return { ...(fromMs === undefined ? {} : { fromMs }), ...(toMs === undefined ? {} : { toMs }) }
}

async function endOf(source: TraceSource): Promise<number> {
  let endMs = 0
  const onSeen = (wallMs: number) => {
    endMs = Math.max(endMs, wallMs)
  }
  const quiet = { onDamaged: () => undefined, filter: { levels: [] }, onSeen }
  for (const { directory, process, segments } of source.streamsOf()) {
    const stream = { directory, process, segments: segments.slice(-2) }
    for await (const _ of source.batchesOf(stream, quiet));
  }
  return endMs
}

/** Throws `unknown-process`, `unknown-host`: of a cluster's directory, both are known beforehand. */
export function checkNames(source: TraceSource, input: Input): void {
  const { file } = source
  const processes = file === null ? source.names : [...new Set([...processesOf(file), ...source.names])]
  for (const process of input.texts('process')) {
    if (!processes.includes(process)) throw unknown('process', process, processes)
  }
  const host = input.text('host')
  if (file === null || host === undefined || file.hosts.some(({ name }) => name === host)) return
  const known = file.hosts.map(({ name }) => name)
  throw unknown('host', host, known)
}

const KNOWN_MAX = 20

function unknown(what: string, name: string, known: readonly string[]): StellwerkError {
  const shown = known.slice(0, KNOWN_MAX).join(', ')
  const more = known.length > KNOWN_MAX ? `, and ${known.length - KNOWN_MAX} more` : ''
  return new StellwerkError(`unknown-${what}`, `there is no ${what} "${name}"`, {
    where: `--${what}`,
    hint: known.length === 0 ? `no record names a ${what}` : `known: ${shown}${more}`,
  })
}

/** Nothing was found: throws `unknown-vm`, `unknown-kind`, … for the first word that no record of the trace has. */
export async function explainNothing(source: TraceSource, filter: TraceFilter): Promise<void> {
  for (const field of ID_FIELDS) {
    const value = filter[field]
    if (value === undefined) continue
    const known = await valuesOf(source, field)
    if (!known.includes(value)) throw unknown(field, value, known)
  }
  if (filter.kinds === undefined) return
  const known = await valuesOf(source, 'kind')
  for (const kind of filter.kinds) {
    const isKnown = kind.endsWith('.*') ? known.some(each => each.startsWith(kind.slice(0, -1))) : known.includes(kind)
    if (!isKnown) throw unknown('kind', kind, known)
  }
}

/** All values that a field has in the trace, sorted. */
export async function valuesOf(source: TraceSource, field: IdField | 'kind'): Promise<string[]> {
  const values = new Set<string>()
  const options: TraceReadOptions = { filter: { distinct: field }, onDamaged: () => undefined }
  for (const stream of source.streamsOf()) {
    for await (const batch of source.batchesOf(stream, options)) {
      for (const record of batch) values.add(record[field] ?? '')
    }
  }
  return [...values].sort()
}
