// What many seeds of a plan come to: for programs, for people, and as JUnit XML with a test case for each seed.

import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { SeedVerdict } from '../many-seeds.ts'
import { formatDuration } from '../plan/quantity.ts'
import { escapeMarkdown, escapeXml } from './escape.ts'
import { page } from './html.ts'
import type { JsonObjective } from './json.ts'

export interface SeedsReport {
  readonly verdict: 'pass' | 'fail'
  readonly plan: string
  readonly seeds: number
  readonly failed: readonly { readonly seed: string; readonly failures: readonly string[] }[]
  readonly faults: { readonly [kind: string]: number }
  /** Of each the worst value of all seeds, and how many seeds missed it. */
  readonly objectives: readonly (JsonObjective & { readonly missed: number; readonly worstSeed: string | null })[]
  readonly violations: readonly (Violation & { readonly seed: string })[]
  readonly migrations: number
  readonly failovers: number
  readonly acknowledged: number
}

/** `asked`: in this order; one that was not run (interrupted) makes no pass. */
export function seedsReport(plan: string, asked: readonly string[], results: readonly SeedVerdict[]): SeedsReport {
  const sorted = asked.flatMap(seed => results.find(each => each.seed === seed) ?? [])
  const failed = sorted.filter(({ verdict }) => verdict === 'fail')
  const sum = (of: (result: SeedVerdict) => number): number => sorted.reduce((all, each) => all + of(each), 0)
  const faults: { [kind: string]: number } = {}
  for (const result of sorted) {
    for (const [kind, count] of Object.entries(result.faults)) faults[kind] = (faults[kind] ?? 0) + count
  }
  return {
    verdict: failed.length === 0 && sorted.length === asked.length ? 'pass' : 'fail',
    ...{ plan, seeds: sorted.length },
    failed: failed.map(({ seed, failures }) => ({ seed, failures })),
    faults,
    objectives: worstOf(sorted),
    violations: sorted.flatMap(({ seed, violations }) => violations.map(each => ({ ...each, seed }))),
    migrations: sum(({ migrations }) => migrations),
    failovers: sum(({ failovers }) => failovers),
    acknowledged: sum(({ acknowledged }) => acknowledged),
  }
}

function worstOf(results: readonly SeedVerdict[]): SeedsReport['objectives'] {
  const names = results[0]?.objectives.map(({ name }) => name) ?? []
  return names.flatMap(name => {
    const all = results.flatMap(({ seed, objectives }) =>
      objectives.filter(each => each.name === name).map(each => ({ ...each, seed })),
    )
    const [any] = all
    if (any === undefined) return []
    const isLess = any.unit === 'count'
    const worst = all.reduce((a, b) => (badness(b.value, isLess) > badness(a.value, isLess) ? b : a))
    const { seed, ...objective } = worst
    return [
      {
        ...objective,
        ok: all.every(({ ok }) => ok),
        missed: all.filter(({ ok }) => !ok).length,
        worstSeed: worst.value === null ? null : seed,
        samples: all.reduce((sum, { samples }) => sum + samples, 0),
        disturbed: all.reduce((sum, { disturbed }) => sum + disturbed, 0),
      },
    ]
  })
}

function badness(value: number | null, isLess: boolean): number {
  if (value === null) return Number.NEGATIVE_INFINITY
  return isLess ? -value : value
}

export function seedsLines(report: SeedsReport): string[] {
  const { plan, seeds, failed, faults, objectives, migrations, failovers, acknowledged } = report
  const count = Object.values(faults).reduce((sum, each) => sum + each, 0)
  return [
    `${plan}: ${seeds} seeds, ${failed.length} failed; ${count} faults, ${migrations} migrations, ${failovers} failovers, ${acknowledged} entries acknowledged`,
    ...objectives.map(({ name, value, limit, unit, missed, worstSeed }) => {
      const said = (number: number): string => (unit === 'ms' ? formatDuration(number) : String(number))
      if (value === null) return `  ${name}: nothing to measure in any seed`
      const bound = `${unit === 'ms' ? 'at most' : 'at least'} ${said(limit)}`
      return `  ${name}: ${said(value)} at worst, in seed ${worstSeed} (${bound}); missed by ${missed} seeds`
    }),
  ]
}

function seedsTitle({ plan, seeds }: SeedsReport): string {
  return `Chaos plan ${plan}, ${seeds} seeds`
}

/** `replay`: the command that does a seed again. */
export function seedsHtml(
  report: SeedsReport,
  results: readonly SeedVerdict[],
  replay: (seed: string) => string,
): string {
  const said = (value: number | null, unit: 'ms' | 'count'): string =>
    value === null ? 'nothing to measure' : unit === 'ms' ? formatDuration(value) : String(value)
  return page(seedsTitle(report), report.verdict, [
    { title: 'Verdict', lines: [`${report.verdict === 'pass' ? 'PASS' : 'FAIL'}: ${seedsLines(report)[0]}`] },
    ...report.failed.map(({ seed, failures }) => ({
      title: `Seed ${seed} failed`,
      lines: [...failures, `Do it again: ${replay(seed)}`],
    })),
    {
      title: 'Objectives',
      lines: report.objectives.length === 0 ? ['The plan has none.'] : [],
      head: ['objective', 'worst', 'in seed', 'limit', 'samples', 'under other faults', 'missed by seeds'],
      rows: report.objectives.map(({ name, value, worstSeed, limit, unit, samples, disturbed, missed }) => [
        ...[name, said(value, unit), worstSeed ?? '', said(limit, unit)],
        ...[String(samples), String(disturbed), String(missed)],
      ]),
    },
    {
      title: 'Faults',
      lines: [],
      head: ['fault', 'times'],
      rows: Object.entries(report.faults).map(([kind, count]) => [kind, String(count)]),
    },
    {
      title: 'Seeds',
      lines: [],
      head: ['seed', 'verdict', 'faults', 'failovers', 'migrations', 'entries acknowledged'],
      rows: results.map(({ seed, verdict, faults, failovers, migrations, acknowledged }) => [
        ...[seed, verdict, String(Object.values(faults).reduce((sum, each) => sum + each, 0))],
        ...[String(failovers), String(migrations), String(acknowledged)],
      ]),
    },
  ])
}

export function seedsMarkdown(report: SeedsReport): string {
  const lines = seedsLines(report).map(line => `* ${escapeMarkdown(line.trim())}`)
  const failed = report.failed.flatMap(({ seed, failures }) => [
    `## Seed ${escapeMarkdown(seed)}`,
    '',
    ...failures.map(each => `* ${escapeMarkdown(each)}`),
    '',
  ])
  return [`# ${escapeMarkdown(seedsTitle(report))}: ${report.verdict}`, '', ...lines, '', ...failed].join('\n')
}

/** `asked`: one that was not run, since the user had enough, is no pass. */
export function seedsJunit(report: SeedsReport, results: readonly SeedVerdict[], asked: readonly string[]): string {
  const missing = asked.filter(seed => !results.some(each => each.seed === seed))
  const all = [...results, ...missing.map(seed => ({ seed, failures: ['it was not run: interrupted'] }))]
  const cases = all.flatMap(({ seed, failures }) => {
    const head = `    <testcase classname="chaos.${escapeXml(report.plan)}" name="seed ${escapeXml(seed)}"`
    if (failures.length === 0) return [`${head}/>`]
    const [first = ''] = failures
    const body = `<failure message="${escapeXml(first)}">${escapeXml(failures.join('\n'))}</failure>`
    return [`${head}>${body}</testcase>`]
  })
  const counts = `tests="${all.length}" failures="${report.failed.length + missing.length}"`
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="stellwerk chaos" ${counts}>`,
    `  <testsuite name="${escapeXml(report.plan)} on sim" ${counts}>`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n')
}
