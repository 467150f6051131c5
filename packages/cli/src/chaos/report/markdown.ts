// A run's report as Markdown, and the sections that the HTML page has as well.

import { describeFault } from '../describe-fault.ts'
import { failuresOf } from '../judge/judge.ts'
import { failoverSamples, objectiveLine, outageSamples, type Sample } from '../judge/objectives.ts'
import { formatDuration } from '../plan/quantity.ts'
import type { RunResult } from '../run.ts'
import { escapeMarkdown } from './escape.ts'

export interface Section {
  readonly title: string
  readonly lines: readonly string[]
  readonly head?: readonly string[]
  readonly rows?: readonly (readonly string[])[]
}

export function titleOf({ plan, kind, seed }: RunResult): string {
  return `Chaos plan ${plan.name} on ${kind}, seed ${seed}`
}

/** `replay`: the command that does it again. */
export function sectionsOf(result: RunResult, replay: string): Section[] {
  const { plan, verdict, objectives, history, judged, schedule, migrations } = result
  const failures = failuresOf(result, objectiveLine)
  const ms = (value: number): string => (value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(1)} s`)
  const at = (value: number): string => `${(value / 1_000).toFixed(2)} s`
  const sampleRow = ({ what, from, ms: lasted, disturbed }: Sample): string[] => [
    what,
    at(from),
    ms(lasted),
    disturbed ? 'yes' : 'no',
  ]
  return [
    {
      title: 'Verdict',
      lines: [
        `${verdict === 'pass' ? 'PASS' : 'FAIL'}: ${plan.summary}`,
        ...failures,
        `Do it again: ${replay}`,
        ...(result.traceHash === null ? [] : [`Trace hash ${result.traceHash}`]),
      ],
    },
    {
      title: 'Objectives',
      lines: objectives.length === 0 ? ['The plan has none.'] : [],
      head: ['objective', 'measured', 'limit', 'samples', 'under other faults', 'kept'],
      rows: objectives.map(each => [
        each.name,
        each.value === null ? 'nothing to measure' : each.unit === 'ms' ? ms(each.value) : String(each.value),
        each.unit === 'ms' ? formatDuration(each.limit) : String(each.limit),
        String(each.samples),
        String(each.disturbed),
        each.ok ? 'yes' : 'NO',
      ]),
    },
    {
      title: 'Rules',
      lines: [`Judged by ${history.records} records; see docs/SPEC.md.`],
      head: ['rule', 'records', 'broken'],
      rows: Object.entries(judged).map(([rule, records]) => [
        rule,
        String(records),
        String(result.violations.filter(each => each.rule === rule).length),
      ]),
    },
    {
      title: 'Faults',
      lines: [
        `Limits: ${Object.entries(plan.limits)
          .filter(([, v]) => v < Number.MAX_SAFE_INTEGER)
          .map(([k, v]) => (k === 'gapMs' ? `gap ${formatDuration(v)}` : `${k} ${v}`))
          .join(', ')}.`,
      ],
      head: ['planned at', '', 'fault', 'began', 'healed'],
      rows: schedule.map(fault => {
        const { from, to } = history.faults.find(({ id }) => id === fault.id) ?? { from: null, to: null }
        const nothing = history.idle.has(fault.id)
        const began = from !== null ? at(from) : nothing ? 'did nothing' : 'never'
        const healed = to !== null ? at(to) : nothing ? '' : 'never'
        return [at(fault.atMs), `#${fault.id}`, describeFault(fault), began, healed]
      }),
    },
    {
      title: 'Failovers',
      lines: history.failovers.length === 0 ? ['None.'] : [],
      head: ['VM', 'lost', 'down for', 'under other faults'],
      rows: [...failoverSamples(history, false), ...failoverSamples(history, true)]
        .sort((a, b) => a.from - b.from)
        .map(sampleRow),
    },
    {
      title: 'Migrations',
      lines: [
        `${migrations.asked} asked for, ${migrations.refused} refused, ${history.migrationsCommitted} committed; ` +
          `guests stood still ${history.pauses.length} times, ${ms(Math.max(0, ...history.pauses.map(p => p.to - p.from)))} at most.`,
      ],
    },
    {
      title: 'VMs',
      lines: [],
      head: ['VM', 'entries acknowledged', 'longest outage', 'from'],
      rows: outageSamples(history).map(({ vm, ms: lasted, from }) => [
        vm,
        String(history.vms.get(vm)?.acknowledged.length ?? 0),
        ms(lasted),
        at(from),
      ]),
    },
  ]
}

export function markdown(result: RunResult, replay: string): string {
  const cell = (value: string): string => escapeMarkdown(value).replaceAll('|', '\\|')
  const joined = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const row = (cells: readonly string[]): string => joined(cells.map(cell))
  const lines = sectionsOf(result, replay).flatMap(({ title, lines, head, rows }) => [
    `## ${title}`,
    '',
    ...lines.flatMap(line => [escapeMarkdown(line), '']),
    ...(head === undefined || rows === undefined || rows.length === 0
      ? []
      : [row(head), joined(head.map(() => '---')), ...rows.map(row), '']),
  ])
  return [`# ${escapeMarkdown(titleOf(result))}`, '', ...lines].join('\n')
}
