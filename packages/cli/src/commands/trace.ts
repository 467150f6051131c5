// `stellwerk trace …`: the traces that the cluster's processes keep in its directory, merged into one.

import type { TraceFilter } from '@stellwerk/protocol/trace/filter.ts'
import { formatDate, formatLine, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { mergeTraces, readTraceBatches, traceSegments } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceLevel, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { clusterIn, filesOf } from '../cluster/directory.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  JSON_OUT,
  OK,
} from '../command-line/command.ts'
import { oneOf, parseCount } from '../command-line/values.ts'
import { table } from '../render/table.ts'
import { check } from './trace-check.ts'
import { exporting } from './trace-export.ts'
import { replay, toScenario } from './trace-replay.ts'

async function processesOf(directory: string): Promise<string[]> {
  const cluster = await clusterIn(directory)
  const hosts = cluster.hosts.flatMap(({ name }) => [`${name}/agent`, `${name}/guardian`])
  return ['coordinator', ...hosts, ...cluster.storages.map(({ name }) => name)]
}

const list: CommandSpec = {
  words: 'trace list',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Which processes have traces, and from when to when',
  run: async (context, input) => {
    const directory = context.directory(input)
    const files = filesOf(directory)
    const damaged = { count: 0 }
    const found: { process: string; segments: number; records: number; fromMs: number; toMs: number }[] = []
    for (const process of await processesOf(directory)) {
      const segments = await traceSegments(files, `${process}/trace`)
      if (segments.length === 0) continue
      const span = { process, segments: segments.length, records: 0, fromMs: 0, toMs: 0 }
      for await (const batch of readTraceBatches(files, `${process}/trace`, tolerant(context, damaged))) {
        for (const record of batch) {
          if (span.records === 0) span.fromMs = record.hlc.wallMs
          span.toMs = record.hlc.wallMs
          span.records += 1
        }
      }
      found.push(span)
    }
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify(found))
      return damaged.count === 0 ? OK : FAILED
    }
    const when = (ms: number) => `${formatDate(ms)} ${formatTime(ms)}`
    const rows = found.map(span => [
      span.process,
      String(span.segments),
      String(span.records),
      span.records === 0 ? '-' : when(span.fromMs),
      span.records === 0 ? '-' : when(span.toMs),
    ])
    for (const line of table(['PROCESS', 'SEGMENTS', 'RECORDS', 'FROM', 'TO'], rows)) context.terminal.out(line)
    return damaged.count === 0 ? OK : FAILED
  },
}

/** A guardian has nothing to tell until it attests an agent's death; all others begin with what they are. */
const tracesAlways = (process: string): boolean => !process.endsWith('/guardian')

/** What a kill cut off is no damage; what is damaged is said, and the rest still shown. */
function tolerant(context: CommandContext, damaged: { count: number } = { count: 0 }) {
  const tell = (error: StellwerkError) => {
    damaged.count += 1
    context.terminal.err(`stellwerk: ${describeError(error)}`)
  }
  return { onDamaged: tell, onGap: tell }
}

const show: CommandSpec = {
  words: 'trace show',
  args: [],
  options: {
    dir: DIR,
    json: { type: 'boolean', help: 'for programs: one JSON record a line' },
    process: { type: 'string', multiple: true, value: 'P', help: 'only of this process: coordinator, host-a/agent, …' },
    kind: { type: 'string', multiple: true, value: 'K', help: 'vm.run, or vm.* for a family' },
    level: { type: 'string', value: 'decision|message|io', help: 'up to this level (default decision)' },
    host: { type: 'string', value: 'H', help: 'about this host' },
    vm: { type: 'string', value: 'VM', help: 'about this VM' },
    volume: { type: 'string', value: 'V', help: 'about this volume' },
    migration: { type: 'string', value: 'ID', help: 'about this migration' },
    last: { type: 'string', value: 'N', help: 'only the last N records (default 1000)' },
    full: { type: 'boolean', help: 'with dates and causes' },
  },
  summary: 'The records of all processes in the order in which things happened',
  run: async (context, input) => {
    const directory = context.directory(input)
    const filter = filterOf(input)
    const most = parseCount('last', input.text('last') ?? '1000', 1, 1_000_000)
    const known = await processesOf(directory)
    const wanted = input.texts('process')
    const unknown = wanted.find(process => !known.includes(process))
    if (unknown !== undefined) {
      throw new StellwerkError('unknown-process', `there is no process "${unknown}"`, {
        where: '--process',
        hint: `known: ${known.join(', ')}`,
      })
    }
    const host = input.text('host')
    const { hosts } = await clusterIn(directory)
    if (host !== undefined && !hosts.some(({ name }) => name === host)) {
      throw new StellwerkError('unknown-host', `there is no host "${host}"`, {
        where: '--host',
        hint: `known: ${hosts.map(({ name }) => name).join(', ')}`,
      })
    }
    const damaged = { count: 0 }
    const options = { filter, ...tolerant(context, damaged) }
    const files = filesOf(directory)
    for (const process of wanted.length === 0 ? known.filter(tracesAlways) : wanted) {
      if ((await traceSegments(files, `${process}/trace`)).length > 0) continue
      damaged.count += 1
      context.terminal.err(`stellwerk: ${process} has no trace (${directory}/${process}/trace); it is left out`)
    }
    const traces = (wanted.length === 0 ? known : wanted).map(process =>
      readTraceBatches(files, `${process}/trace`, options),
    )
    const ring: TraceRecord[] = []
    for await (const record of mergeTraces(traces)) {
      ring.push(record)
      // Dropped in bulk: shifting a long array for each record would cost more than reading it.
      if (ring.length >= 2 * most) ring.splice(0, ring.length - most)
    }
    for (const record of ring.slice(-most)) {
      context.terminal.out(
        input.flag('json') ? JSON.stringify(record) : formatLine(record, { full: input.flag('full') }),
      )
    }
    return damaged.count === 0 ? OK : FAILED
  },
}

const LEVELS = ['decision', 'message', 'io'] as const

function filterOf(input: Input): TraceFilter {
  const level = oneOf('level', input.text('level') ?? 'decision', LEVELS)
  const levels: TraceLevel[] = LEVELS.slice(0, LEVELS.indexOf(level) + 1)
  const ids: Record<string, string> = {}
  for (const field of ['host', 'vm', 'volume', 'migration']) {
    const value = input.text(field)
    if (value !== undefined) ids[field] = value
  }
  const kinds = input.texts('kind')
  return { levels, ...(kinds.length === 0 ? {} : { kinds }), ...ids }
}

export const commands: readonly CommandSpec[] = [list, show, check, exporting, replay, toScenario]
