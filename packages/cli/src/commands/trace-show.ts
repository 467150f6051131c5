// `stellwerk trace show`: the records of all processes in the order in which things happened; all, those that are wanted, those
// that led to one and that it led to, new ones as they come, or one migration or outage as a sequence chart.

import { formatLine } from '@stellwerk/protocol/trace/format-line.ts'
import { traceSegments } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type CommandContext, type CommandSpec, DIR, FAILED, type Input, OK } from '../command-line/command.ts'
import { oneOf, parseCount } from '../command-line/values.ts'
import { traceDirectory } from '../programs/process.ts'
import type { Chart } from '../trace/chart.ts'
import { mermaid } from '../trace/chart-mermaid.ts'
import { migrationChart } from '../trace/chart-migration.ts'
import { outageChart } from '../trace/chart-outage.ts'
import { chartText } from '../trace/chart-text.ts'
import { type CausalStory, parseCause, storyOf } from '../trace/show-causes.ts'
import {
  ABOUT,
  checkNames,
  explainNothing,
  filterOf,
  levelsUpTo,
  PROCESS,
  spanOf,
  TIMES,
} from '../trace/show-filter.ts'
import { follow } from '../trace/show-follow.ts'
import { FROM, openTrace, processesOf, type TraceSource } from '../trace/source.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

const FORMATS = ['lines', 'chart', 'mermaid'] as const

export const show: CommandSpec = {
  words: 'trace show',
  args: [],
  options: {
    dir: DIR,
    from: FROM,
    json: { type: 'boolean', help: 'for programs: one JSON record a line, or a chart as JSON' },
    process: PROCESS,
    level: { type: 'string', value: 'decision|message|io', help: 'up to this level (default decision)' },
    ...ABOUT,
    migration: { type: 'string', value: 'ID', help: 'this migration as a chart (see: trace list --migrations)' },
    outage: { type: 'string', value: 'ID', help: 'this outage as a chart (see: trace list --outages)' },
    format: { type: 'string', value: 'lines|chart|mermaid', help: 'of a migration or an outage (default chart)' },
    ...TIMES,
    cause: { type: 'string', value: 'P#N', help: 'this record, all that led to it, and all it led to' },
    last: { type: 'string', value: 'N', help: 'only the last N records (default 1000)' },
    follow: { type: 'boolean', help: 'go on with what happens' },
    full: { type: 'boolean', help: 'with dates and causes' },
  },
  summary: 'The records of all processes in the order in which things happened',
  run: async (context, input) => {
    const most = parseCount('last', input.text('last') ?? '1000', 1, 1_000_000)
    levelsUpTo(input.text('level') ?? 'decision')
    const wish = wishOf(input)
    const open = () => openTrace(context.directory(input), input.texts('from'))
    const source = await open()
    checkNames(source, input)
    const damage: Damage = { count: 0 }
    if (wish === 'migration' || wish === 'outage') return chart(context, input, source, damage)
    if (wish === 'cause') return cause(context, input, source, damage)
    await tellMissing(context, input, source, damage)
    return input.flag('follow')
      ? following(context, input, source, damage, open, most)
      : records(context, input, source, damage, most)
  },
}

/** Throws `usage` for words that do not go together. */
function wishOf(input: Input): 'records' | 'cause' | 'migration' | 'outage' {
  const given = (['cause', 'migration', 'outage'] as const).filter(name => input.text(name) !== undefined)
  const format = oneOf('format', input.text('format') ?? 'chart', FORMATS)
  const [first, second] = given
  if (second !== undefined) throw contradiction(`--${first}`, `--${second}`, 'ask for one of them')
  const wish = first === undefined || (first === 'migration' && format === 'lines') ? 'records' : first
  if (wish !== 'records' && input.flag('follow')) {
    throw contradiction(`--${wish}`, '--follow', wish === 'migration' ? 'add --format lines' : 'leave one out')
  }
  if (input.text('format') !== undefined && first !== 'migration' && first !== 'outage') {
    throw contradiction('--format', 'records', 'it is for --migration and --outage')
  }
  if (wish === 'outage' && format === 'lines') throw contradiction('--outage', '--format lines', 'use --host or --vm')
  if (wish === 'records') return wish
  const silent = SELECTING.find(name => !HEEDED[wish].includes(name) && isGiven(input, name))
  if (silent !== undefined) throw contradiction(`--${wish}`, `--${silent}`, HINTS[wish])
  return wish
}

/** Words that choose among records. */
const SELECTING = [...Object.keys(ABOUT), ...Object.keys(TIMES), 'process', 'level', 'last'] as const
/** A chart is of all that belongs to its subject; a story of all that led to its record, and from it, in that time. */
const HEEDED: { readonly [wish in 'cause' | 'migration' | 'outage']: readonly string[] } = {
  cause: ['since', 'until', 'level'],
  migration: ['migration'],
  outage: [],
}
const HINTS: { readonly [wish in 'cause' | 'migration' | 'outage']: string } = {
  cause: 'a story is told whole; --since, --until and --level are for it',
  migration: 'a chart has all of its migration; records are chosen with --format lines',
  outage: 'a chart has all of its outage; leave it out',
}

function isGiven(input: Input, name: string): boolean {
  return input.texts(name).length > 0 || input.text(name) !== undefined
}

function contradiction(one: string, other: string, hint: string): StellwerkError {
  return new StellwerkError('usage', `${one} does not go with ${other}`, { where: 'trace show', hint })
}

// --- records ---------------------------------------------------------------------------------------------------------------

const printer = ({ terminal }: CommandContext, input: Input) => {
  const full = input.flag('full')
  const json = input.flag('json')
  return (record: TraceRecord) => terminal.out(json ? JSON.stringify(record) : formatLine(record, { full }))
}

const namesOf = (input: Input): readonly string[] | undefined => {
  const names = input.texts('process')
  return names.length === 0 ? undefined : names
}

async function records(
  context: CommandContext,
  input: Input,
  source: TraceSource,
  damage: Damage,
  most: number,
): Promise<number> {
  const filter = await filterOf(source, input, 'decision')
  const options = { filter, ...tolerant(context, damage) }
  const print = printer(context, input)
  const printed =
    most > RING_MAX
      ? await printAfterCounting(() => source.records(options, namesOf(input)), most, print)
      : await printLast(source.records(options, namesOf(input)), most, print)
  if (printed === 0) {
    await explainNothing(source, filter)
    if (damage.count === 0) context.terminal.err('stellwerk: no record is as asked for')
  }
  return damage.count === 0 ? OK : FAILED
}

/** More are not held in memory: they are counted first, and read again. */
const RING_MAX = 20_000

async function printLast(
  found: AsyncIterable<TraceRecord>,
  most: number,
  print: (record: TraceRecord) => void,
): Promise<number> {
  const ring: TraceRecord[] = []
  for await (const record of found) {
    ring.push(record)
    // Dropped in bulk: shifting a long array for each record would cost more than reading it.
    if (ring.length >= 2 * most) ring.splice(0, ring.length - most)
  }
  for (const record of ring.slice(-most)) print(record)
  return ring.length
}

async function printAfterCounting(
  read: () => AsyncIterable<TraceRecord>,
  most: number,
  print: (record: TraceRecord) => void,
): Promise<number> {
  let count = 0
  for await (const _ of read()) count += 1
  let at = 0
  for await (const record of read()) {
    at += 1
    if (at > count - most) print(record)
  }
  return count
}

/** A guardian has nothing to tell until it attests an agent's death; all others begin with what they are. */
const tracesAlways = (process: string): boolean => !process.endsWith('/guardian')

async function tellMissing(context: CommandContext, input: Input, source: TraceSource, damage: Damage): Promise<void> {
  if (source.file === null) return
  const wanted = namesOf(input) ?? processesOf(source.file).filter(tracesAlways)
  for (const process of wanted) {
    const directory = traceDirectory(source.where, process)
    if ((await traceSegments(source.files, directory)).length > 0) continue
    damage.count += 1
    context.terminal.err(`stellwerk: ${process} has no trace (${directory}); it is left out`)
  }
}

async function following(
  context: CommandContext,
  input: Input,
  source: TraceSource,
  damage: Damage,
  reopen: () => Promise<TraceSource>,
  last: number,
): Promise<number> {
  const filter = await filterOf(source, input, 'decision')
  const names = namesOf(input)
  await follow(source, {
    filter,
    last: input.text('last') === undefined ? FOLLOW_LAST : last,
    ...(names === undefined ? {} : { names }),
    ...tolerant(context, damage),
    reopen,
    onRecord: printer(context, input),
    // Until it is interrupted; or until it must be, as what it looks for can't come any more.
    isOver: () => filter.toMs !== undefined,
  })
  return damage.count === 0 ? OK : FAILED
}

/** Of what is there when the following begins. */
const FOLLOW_LAST = 20

// --- causes ----------------------------------------------------------------------------------------------------------------

async function cause(context: CommandContext, input: Input, source: TraceSource, damage: Damage): Promise<number> {
  const wanted = parseCause(input.text('cause') ?? '')
  const told = await storyOf(source, wanted, { filter: await spanOf(source, input), ...tolerant(context, damage) })
  for (const line of storyLines(told, input)) context.terminal.out(line)
  if (told.others > 0) {
    const says = `${told.others} earlier runs of ${wanted.process} have a record ${wanted.seq}, too; --until asks for them`
    context.terminal.err(`stellwerk: ${says}`)
  }
  if (told.isCut) context.terminal.err('stellwerk: it led to more than is shown; --until asks for less')
  return damage.count === 0 ? OK : FAILED
}

function storyLines({ records: all, root }: CausalStory, input: Input): string[] {
  const levels = levelsUpTo(input.text('level') ?? 'io')
  const shown = all.filter(record => record === root || levels.includes(record.level))
  if (input.flag('json')) return shown.map(record => JSON.stringify(record))
  return shown.map(record => `${record === root ? '►' : ' '} ${formatLine(record, { full: true })}`)
}

// --- charts ----------------------------------------------------------------------------------------------------------------

async function chart(context: CommandContext, input: Input, source: TraceSource, damage: Damage): Promise<number> {
  const migration = input.text('migration')
  const options = tolerant(context, damage)
  const drawn: Chart =
    migration === undefined
      ? await outageChart(source, input.text('outage') ?? '', options)
      : await migrationChart(source, migration, options)
  const { terminal } = context
  if (input.flag('json')) terminal.out(JSON.stringify(drawn))
  else if (input.text('format') === 'mermaid') for (const line of mermaid(drawn)) terminal.out(line)
  else for (const line of chartText(drawn, terminal.isTty ? terminal.columns : undefined)) terminal.out(line)
  return damage.count === 0 ? OK : FAILED
}
