// `stellwerk trace list`: which processes have traces, from when to when; or which migrations and outages are in them.

import { formatDate, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type CommandContext, type CommandSpec, DIR, FAILED, JSON_OUT, OK } from '../command-line/command.ts'
import { table } from '../render/table.ts'
import { endOf, migrationsIn, type Outage, outagesIn } from '../trace/chart-incidents.ts'
import { span } from '../trace/chart-text.ts'
import { FROM, openTrace, type TraceSource } from '../trace/source.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

export const list: CommandSpec = {
  words: 'trace list',
  args: [],
  options: {
    dir: DIR,
    from: FROM,
    migrations: { type: 'boolean', help: 'the migrations in them, for trace show --migration' },
    outages: { type: 'boolean', help: 'the outages and failovers in them, for trace show --outage' },
    json: JSON_OUT,
  },
  summary: 'Which processes have traces, and from when to when',
  run: async (context, input) => {
    const [migrations, outages] = [input.flag('migrations'), input.flag('outages')]
    if (migrations && outages) {
      const hint = 'ask for one of them'
      throw new StellwerkError('usage', '--migrations does not go with --outages', { where: 'trace list', hint })
    }
    const source = await openTrace(context.directory(input), input.texts('from'))
    const damage: Damage = { count: 0 }
    const json = input.flag('json')
    if (migrations) await listMigrations(context, source, damage, json)
    else if (outages) await listOutages(context, source, damage, json)
    else await listProcesses(context, source, damage, json)
    return damage.count === 0 ? OK : FAILED
  },
}

const when = (ms: number) => `${formatDate(ms)} ${formatTime(ms)}`

async function listProcesses(
  context: CommandContext,
  source: TraceSource,
  damage: Damage,
  json: boolean,
): Promise<void> {
  const found: { process: string; segments: number; records: number; fromMs: number; toMs: number }[] = []
  for (const { name, streams } of source.processes) {
    const all = { process: name, segments: 0, records: 0, fromMs: 0, toMs: 0 }
    const onSeen = (wallMs: number) => {
      if (all.records === 0) all.fromMs = wallMs
      all.toMs = wallMs
      all.records += 1
    }
    for (const stream of streams) {
      all.segments += stream.segments.length
      // None is decoded.
      const options = { ...tolerant(context, damage), filter: { levels: [] }, onSeen }
      for await (const _ of source.batchesOf(stream, options));
    }
    found.push(all)
  }
  const { terminal } = context
  if (json) {
    terminal.out(JSON.stringify(found))
    return
  }
  const rows = found.map(({ process, segments, records, fromMs, toMs }) => {
    const times = records === 0 ? ['-', '-'] : [when(fromMs), when(toMs)]
    return [process, String(segments), String(records), ...times]
  })
  for (const line of table(['PROCESS', 'SEGMENTS', 'RECORDS', 'FROM', 'TO'], rows)) terminal.out(line)
}

async function listMigrations(
  context: CommandContext,
  source: TraceSource,
  damage: Damage,
  json: boolean,
): Promise<void> {
  const { terminal } = context
  const found = await migrationsIn(source, tolerant(context, damage))
  if (json) {
    terminal.out(JSON.stringify(found))
    return
  }
  if (found.length === 0) terminal.out('no migration is in the trace')
  const rows = found.map(({ id, vm, source: from, target, startMs, endMs, state }) => [
    ...[id, vm, from, target, when(startMs), span(endMs - startMs), state],
  ])
  const head = ['MIGRATION', 'VM', 'FROM', 'TO', 'SINCE', 'TOOK', 'STATE']
  if (rows.length > 0) for (const line of table(head, rows)) terminal.out(line)
}

async function listOutages(context: CommandContext, source: TraceSource, damage: Damage, json: boolean): Promise<void> {
  const { terminal } = context
  const found = await outagesIn(source, tolerant(context, damage))
  if (json) {
    terminal.out(JSON.stringify(found.map(outage => ({ ...outage, endMs: endOf(outage) }))))
    return
  }
  if (found.length === 0) terminal.out('no outage is in the trace')
  const rows = found.flatMap(rowsOf)
  if (rows.length > 0) for (const line of table(['OUTAGE', 'SINCE', 'TOOK', 'WHAT'], rows)) terminal.out(line)
}

function rowsOf(outage: Outage): string[][] {
  const { id, startMs, sign, why, fenceMs, failovers, vms } = outage
  const endMs = endOf(outage)
  const took = endMs === null ? 'not over' : span(endMs - startMs)
  const lost = vms.length === 0 ? 'no VM was there' : `${failovers.length} of ${vms.length} VMs failed over`
  const what = fenceMs === null ? `${sign}; heard again` : `${why}; ${lost}`
  const own = failovers.map(failover => {
    const ran = failover.runMs === null ? 'not over' : span(failover.runMs - startMs)
    return [`  ${failover.id}`, when(failover.placedMs), ran, `${failover.vm} to ${failover.to}`]
  })
  return [[id, when(startMs), took, what], ...own]
}
