// What `stellwerk chaos run` does with one run, and with many seeds: progress, verdict, reports, and the smaller plan that a
// failure is shrunk to.

import { join, resolve } from 'node:path'
import { createRandom } from '@stellwerk/runtime/node/random.ts'
import { FAILED, OK } from '../command-line/command.ts'
import { drawnFor } from './doable.ts'
import { onInterrupt } from './interrupt.ts'
import { failuresOf } from './judge/judge.ts'
import { objectiveLine } from './judge/objectives.ts'
import { runSeedsOf, type SeedVerdict } from './many-seeds.ts'
import type { PlanSource } from './plan/library.ts'
import { parsePlan } from './plan/parse-plan.ts'
import type { ChaosPlan } from './plan/plan.ts'
import { formatDuration } from './plan/quantity.ts'
import { html } from './report/html.ts'
import { jsonOf } from './report/json.ts'
import { junit } from './report/junit.ts'
import { markdown } from './report/markdown.ts'
import { seedsHtml, seedsJunit, seedsLines, seedsMarkdown, seedsReport } from './report/seeds.ts'
import { type RunResult, runPlan } from './run.ts'
import { type ReportOptions, type RunReports, writeReport } from './run-reports.ts'
import { type FailureKey, failureKey, shrinkRun } from './shrink-run.ts'
import { targetNamed } from './targets.ts'

export interface ChaosOptions extends ReportOptions {
  /** As it was named on the command line. */
  readonly word: string
  readonly source: PlanSource
  readonly on: string
  readonly seed: string | null
  readonly durationMs: number | null
  readonly canary: string | null
  readonly shrinks: boolean
  /** Logs and traces of real processes stay. */
  readonly keeps: boolean
}

const SEEDS = 2 ** 31

export function freshSeed(): string {
  return String(createRandom().int(SEEDS))
}

export function planOf({ source, durationMs }: Pick<ChaosOptions, 'source' | 'durationMs'>): ChaosPlan {
  return parsePlan(source.file, source.source, durationMs ?? undefined)
}

/** One run. The exit status: 0 it held, 1 it did not. */
export async function runOnce(options: ChaosOptions, reports: RunReports): Promise<number> {
  const { terminal, json } = options
  const plan = planOf(options)
  const seed = options.seed ?? plan.seed ?? freshSeed()
  reports.runs({ plan: plan.name, on: options.on, seed })
  const tell = json ? terminal.err : terminal.out
  const { kind, make } = targetNamed(options.on)
  drawnFor(plan, seed, kind)
  // What a run left that failed, or that never came to be judged, is there for a look.
  // What was refused before anything was started leaves nothing; what ends in the middle of it is for a look.
  let keeps = false
  const target = await make(plan.cluster, { keep: () => keeps, say: tell })
  const interrupt = onInterrupt(() => tell('interrupted: what is broken is healed, then it ends'))
  try {
    const result = await runPlan(target, {
      ...{ plan, seed, stop: interrupt.stop },
      ...(options.canary === null ? {} : { canary: options.canary }),
      onJudged: verdict => {
        keeps = options.keeps || verdict === 'fail'
      },
      onProgress: (atMs, line) => {
        if (atMs === 0) keeps = true
        tell(`${(atMs / 1_000).toFixed(1).padStart(7)} s  ${line}`)
      },
    })
    const replay = replayCommand(options, seed)
    for (const line of verdictLines(result, replay)) tell(line)
    await reports.write({
      'report.md': markdown(result, replay),
      'report.html': html(result, replay),
      'junit.xml': junit([result]),
      'result.json': `${JSON.stringify(jsonOf(result), null, 2)}\n`,
    })
    const key = result.interrupted ? null : failureKey(result)
    if (key !== null && plan.random !== null) await shrinkFailure(options, plan, seed, key, interrupt.stop)
    if (json) terminal.out(JSON.stringify(jsonOf(result)))
    return result.verdict === 'pass' ? OK : FAILED
  } finally {
    interrupt.release()
    if (keeps && target.directory != null) tell(`logs and traces: ${target.directory}`)
  }
}

/** Many seeds, in the simulator. */
export async function runMany(
  options: ChaosOptions,
  seeds: readonly string[],
  jobs: number,
  reports: RunReports,
): Promise<number> {
  const { terminal, json, source, durationMs, canary } = options
  const plan = planOf(options)
  reports.runs({ plan: plan.name, on: options.on, seed: '' })
  const tell = json ? terminal.err : terminal.out
  const interrupt = onInterrupt(() => tell('interrupted: the seeds that have begun are the last'))
  const results: SeedVerdict[] = []
  try {
    const job = {
      ...{ plan: source, seeds },
      ...(durationMs === null ? {} : { durationMs }),
      ...(canary === null ? {} : { canary }),
    }
    const note = (result: SeedVerdict): void => {
      results.push(result)
      const { seed, verdict, failures } = result
      const faults = Object.values(result.faults).reduce((sum, each) => sum + each, 0)
      tell(`seed ${seed}: ${verdict}, ${faults} faults, ${result.failovers} failovers, ${result.migrations} migrations`)
      for (const failure of failures) tell(`  ${failure}`)
      if (failures.length > 0) tell(`  do it again: ${replayCommand(options, seed)}`)
    }
    await runSeedsOf(job, jobs, note, interrupt.stop)
    const report = seedsReport(plan.name, seeds, results)
    for (const line of seedsLines(report)) tell(line)
    await reports.write({
      'report.md': seedsMarkdown(report),
      'report.html': seedsHtml(report, results, seed => replayCommand(options, seed)),
      'junit.xml': seedsJunit(report, results, seeds),
      'result.json': `${JSON.stringify(report, null, 2)}\n`,
    })
    const failed = results.find(({ key }) => key !== null)
    if (failed?.key != null && plan.random !== null && !interrupt.stop()) {
      await shrinkFailure(options, plan, failed.seed, failed.key, interrupt.stop)
    }
    if (json) terminal.out(JSON.stringify(report))
    return report.verdict === 'pass' ? OK : FAILED
  } finally {
    interrupt.release()
  }
}

function verdictLines(result: RunResult, replay: string): string[] {
  const { verdict, objectives, history, plan, kind, seed, migrations } = result
  let acknowledged = 0
  for (const vm of history.vms.values()) acknowledged += vm.acknowledged.length
  const counts = Object.entries(result.faults).map(([fault, count]) => `${fault} ${count}`)
  const failures = failuresOf(result, objectiveLine)
  return [
    '',
    `faults: ${counts.length === 0 ? 'none' : counts.join(', ')}`,
    `${acknowledged} entries acknowledged, ${history.failovers.length} failovers, ${history.migrationsCommitted} migrations committed of ${migrations.asked} asked for; ${history.records} records judged`,
    ...objectives.map(each => `${each.ok ? '  kept  ' : '  MISSED'}  ${objectiveLine(each)}`),
    ...(result.traceHash === null ? [] : [`trace hash ${result.traceHash}`]),
    ...failures.map(each => `  ${each}`),
    `${verdict === 'pass' ? 'PASS' : 'FAIL'}: ${plan.name} on ${kind}, seed ${seed}, ${formatDuration(plan.durationMs)} of faults`,
    ...(verdict === 'pass' ? [] : [`do it again: ${replay}`]),
  ]
}

function replayCommand({ word, on, durationMs, canary }: ChaosOptions, seed: string): string {
  return [
    ...['stellwerk chaos run', quoted(word), '--on', on, '--seed', seed],
    ...(durationMs === null ? [] : ['--duration', formatDuration(durationMs)]),
    ...(canary === null ? [] : ['--canary', canary]),
  ].join(' ')
}

function quoted(word: string): string {
  return /^[\w./@:+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

async function shrinkFailure(
  options: ChaosOptions,
  plan: ChaosPlan,
  seed: string,
  key: FailureKey,
  stop: () => boolean,
): Promise<void> {
  const { terminal, json, canary, shrinks, report } = options
  if (!shrinks) return
  const tell = json ? terminal.err : terminal.out
  tell(`shrinking in the simulator what fails by ${key.name} …`)
  const shrunk = await shrinkRun({
    ...{ plan, seed, key, stop, onProgress: line => tell(`  ${line}`) },
    ...(canary === null ? {} : { canary }),
  })
  if (shrunk === null) {
    tell('the simulator does not show this failure: there is nothing to shrink')
    return
  }
  const name = `${plan.name}-${seed}-shrunk.yaml`
  const directory = report ?? '.'
  const full = resolve(terminal.cwd, directory)
  await writeReport(full, name, shrunk.yaml)
  const bound = shrunk.isCutShort ? '; there may be a smaller one' : ''
  tell(`${shrunk.faults} faults are enough (${shrunk.runs} runs${bound}): ${join(directory, name)}`)
  tell(`do it again: ${replayCommand({ ...options, word: join(directory, name), on: 'sim', durationMs: null }, seed)}`)
}
