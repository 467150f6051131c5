// One migration as a chart: its own records, what they led to, and what became of the VM meanwhile.

import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { CHATTER, type Chart, ChartBuilder, eventText, gather, type Phase, participantsOf } from './chart.ts'
import { type KnownSettings, settingsAt } from './cluster-settings.ts'
import { valuesOf } from './show-filter.ts'
import type { TraceSource } from './source.ts'

/** What its end leads to (sides that are told, disks that are given back) comes within this. */
const AFTER_MS = 1_000
const LISTED_MAX = 10

interface Migration {
  readonly id: string
  readonly vm: string | null
  readonly source: string | null
  readonly target: string | null
  readonly startMs: number
  readonly endMs: number
}

export async function migrationChart(source: TraceSource, id: string, options: TraceReadOptions): Promise<Chart> {
  const migration = await migrationIn(source, id, options)
  const { vm, startMs } = migration
  const settings = await settingsAt(source, startMs)
  const leaveOut = [vm, id].filter(name => name !== null)
  const builder = new ChartBuilder(record => eventText(record, leaveOut))
  const span = { fromMs: startMs, toMs: migration.endMs + AFTER_MS }
  const filter = { levels: ['decision', 'message'] as const, ...span }
  const records = await gather(source, { ...options, filter }, builder, (record, byMember) =>
    belongs(record, byMember, migration),
  )
  const steps = builder.steps()
  const ends = ['coordinator', migration.source, migration.target].filter(name => name !== null)
  const last = Math.max(...steps.map(step => Math.max(step.atMs, step.kind === 'message' ? (step.receivedMs ?? 0) : 0)))
  return {
    kind: 'migration',
    id,
    title: `migration ${id} of ${vm ?? '?'} from ${migration.source ?? '?'} to ${migration.target ?? '?'}`,
    outcome: outcomeOf(records),
    startMs,
    endMs: last,
    participants: participantsOf(steps, ends),
    phases: phasesOf(records, migration, settings),
    steps,
    isCut: builder.isCut,
  }
}

/** Throws `unknown-migration`. */
async function migrationIn(source: TraceSource, id: string, options: TraceReadOptions): Promise<Migration> {
  let vm: string | null = null
  let ends: { source: string | null; target: string | null } = { source: null, target: null }
  let startMs = Number.POSITIVE_INFINITY
  let endMs = 0
  for await (const record of source.records({ ...options, filter: { migration: id } })) {
    vm ??= record.vm ?? null
    const { source: from, target: to } = (record.body ?? {}) as { source?: string; target?: string }
    if (record.kind.startsWith('migration.') && from !== undefined && to !== undefined)
      ends = { source: from, target: to }
    startMs = Math.min(startMs, record.hlc.wallMs)
    endMs = Math.max(endMs, record.hlc.wallMs)
  }
  if (endMs > 0) return { id, vm, ...ends, startMs, endMs }
  const known = await valuesOf(source, 'migration')
  const shown = known.slice(-LISTED_MAX).join(', ')
  throw new StellwerkError('unknown-migration', `there is no migration "${id}" in the trace`, {
    where: '--migration',
    hint: known.length === 0 ? 'it has none' : `see stellwerk trace list --migrations; known: ${shown}`,
  })
}

function belongs(record: TraceRecord, byMember: boolean, { id, vm, source, target }: Migration): boolean {
  const { migration, kind, host } = record
  if (migration !== undefined) return migration === id
  if (isMessage(record)) {
    const { kind: said } = record.body as { kind: string }
    if (!byMember || CHATTER.some(prefix => said.startsWith(prefix))) return false
    return vm === null || record.vm === undefined || record.vm === vm
  }
  if (vm === null) return false
  if (kind.startsWith('decision.')) return (record.body as { subject?: string }).subject === vm
  if (record.vm === vm) return record.level === 'decision' && (host === undefined || host === source || host === target)
  return false
}

function isMessage({ kind }: TraceRecord): boolean {
  return kind === 'message.sent' || kind === 'message.received'
}

function outcomeOf(records: readonly TraceRecord[]): string {
  const of = (kind: string) => records.find(record => record.kind === kind)
  const aborted = of('migration.aborted')
  if (aborted !== undefined) return `aborted: ${(aborted.body as { reason?: string }).reason ?? 'no reason was given'}`
  if (of('migration.done') !== undefined) return 'committed and done'
  if (of('migration.committed') !== undefined) return 'committed; the trace ends before it is done'
  return 'the trace ends before it is decided'
}

function phasesOf(records: readonly TraceRecord[], migration: Migration, settings: KnownSettings | null): Phase[] {
  const of = (kind: string) => records.find(record => record.kind === kind)
  const marks = [
    { name: 'preparing', from: of('migration.requested'), budgetMs: settings?.prepareMs ?? null },
    { name: 'precopy', from: of('migration.precopy'), budgetMs: settings?.precopyMs ?? null },
    { name: 'switching', from: of('migration.switching'), budgetMs: settings?.switchMs ?? null },
    { name: 'finishing', from: of('migration.committed'), budgetMs: null },
  ]
  const phases: Phase[] = []
  for (const [i, { name, from, budgetMs }] of marks.entries()) {
    if (from === undefined) continue
    const next = marks.slice(i + 1).find(mark => mark.from !== undefined)?.from
    const end = next ?? of('migration.aborted') ?? of('migration.done')
    phases.push({ name, ...between(from, end), budgetMs })
  }
  const downtime = downtimeOf(records, migration)
  return downtime === null ? phases : [...phases, { ...downtime, budgetMs: settings?.downtimeMs ?? null }]
}

function between(from: TraceRecord, to: TraceRecord | undefined): Pick<Phase, 'fromMs' | 'toMs' | 'from'> {
  const { process, seq } = from
  return { fromMs: from.hlc.wallMs, toMs: to?.hlc.wallMs ?? null, from: { process, seq } }
}

/** From the source's last step to the first one at the target, or at the source again. */
function downtimeOf(records: readonly TraceRecord[], { vm, source }: Migration): Omit<Phase, 'budgetMs'> | null {
  const switching = records.findIndex(record => record.kind === 'migration.switching')
  if (switching < 0) return null
  const after = records.slice(switching)
  const halt = after.find(record => record.kind === 'vm.halt' && record.vm === vm && record.host === source)
  if (halt === undefined) return null
  const run = after.slice(after.indexOf(halt)).find(record => record.kind === 'vm.run' && record.vm === vm)
  return { name: 'downtime', ...between(halt, run) }
}
