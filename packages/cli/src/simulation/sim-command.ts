// `stellwerk sim`: runs seeds of the simulated cluster, shows one in detail, or searches for a seed that finds a planted bug.

import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { sourceCommit } from '@stellwerk/runtime/node/source-commit.ts'
import { CANARIES, type Canary, canaryNamed } from './canaries.ts'
import type { PlanTuning } from './plan.ts'
import { ReadableTrace } from './readable-trace.ts'
import { SimRecorder } from './recorder.ts'
import { runSeed, type SeedResult } from './run-seed.ts'
import { runSeeds } from './seed-jobs.ts'
import { parseSimOptions, type SimOptions, usage } from './sim-options.ts'
import { COVERING_SEEDS, coverageTable, isFailure, type SimReport, Summary, summaryLines } from './summary.ts'

const PROGRESS_EVERY_MS = 10_000
const TERMINAL_PROGRESS_EVERY_MS = 200

const out = (line: string): void => void process.stdout.write(`${line}\n`)
const err = (line: string): void => void process.stderr.write(`${line}\n`)

/** The exit status: 0 all well, 1 something was found (or, of a planted bug, was not), 2 wrong words. */
export async function simCommand(args: string[]): Promise<number> {
  try {
    const options = parseSimOptions(args)
    const canary = options.canary === null ? null : known(options.canary)
    if (options.replay) return await replay(options, canary)
    return canary === null ? await many(options) : await search(options, canary)
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    err(describeError(error))
    return error.code === 'usage' ? 2 : 1
  }
}

function known(name: string): Canary {
  const canary = canaryNamed(name)
  if (canary !== null) return canary
  throw usage(`there is no canary '${name}'; there are ${CANARIES.map(each => each.name).join(', ')}`)
}

// --- many seeds ------------------------------------------------------------------------------------------------------

async function many({ seeds, jobs, json, safetyMs }: SimOptions): Promise<number> {
  const clock = createClock()
  const start = clock.now()
  const commit = sourceCommit()
  const summary = new Summary()
  const progress = new Progress(seeds.length, () => clock.now())
  await runSeeds({ seeds, ...plantOf(null, safetyMs) }, jobs, result => {
    summary.add(result)
    if (result.failure !== null) {
      progress.clear()
      for (const line of failureLines(result, commit, null, safetyMs)) err(line)
    }
    progress.show(summary)
    return false
  })
  progress.clear()
  const report = summary.report(seeds, clock.now() - start, commit)
  if (json) out(JSON.stringify(report))
  else tell(report)
  return isFailure(report) ? 1 : 0
}

function tell(report: SimReport): void {
  for (const line of [...coverageTable(report), '', ...summaryLines(report)]) out(line)
  const { emptyCells, seeds } = report
  if (seeds >= COVERING_SEEDS && emptyCells.length > 0) out(`never met: ${emptyCells.join(', ')}`)
}

function failureLines(
  { seed, failure }: SeedResult,
  commit: string | null,
  canary: Canary | null,
  safetyMs: number | null,
): string[] {
  if (failure === null) return []
  return [
    `seed ${seed}${commit === null ? '' : ` at commit ${commit}`} fails by ${failure.rule}: ${failure.message}`,
    `  replay it: ${replayCommand(seed, canary, safetyMs)}`,
  ]
}

function replayCommand(seed: string, canary: Canary | null, safetyMs: number | null): string {
  const options = [
    ...(canary === null ? [] : ['--canary', canary.name]),
    ...(safetyMs === null ? [] : ['--safety', safetyMs / 1_000]),
  ]
  return ['npm run sim -- --seed', seed, ...options].join(' ')
}

/** One line that is written over on a terminal, and now and then a line elsewhere. */
class Progress {
  readonly #total: number
  readonly #now: () => number
  readonly #start: number
  #shownAt: number
  #shown = false

  constructor(total: number, now: () => number) {
    this.#total = total
    this.#now = now
    this.#start = now()
    this.#shownAt = this.#start
  }

  show(summary: Summary): void {
    const now = this.#now()
    const isTerminal = process.stderr.isTTY === true
    if (now - this.#shownAt < (isTerminal ? TERMINAL_PROGRESS_EVERY_MS : PROGRESS_EVERY_MS)) return
    this.#shownAt = now
    const pace = Math.round(summary.simulatedMs / Math.max(1, now - this.#start))
    const text = `${summary.count} of ${this.#total} seeds, ${summary.failedCount} failed, ${pace} × real time`
    process.stderr.write(isTerminal ? `\r${text}\u001b[K` : `${text}\n`)
    this.#shown = isTerminal
  }

  clear(): void {
    if (this.#shown) process.stderr.write('\r\u001b[K')
    this.#shown = false
  }
}

// --- one seed --------------------------------------------------------------------------------------------------------

async function replay(options: SimOptions, canary: Canary | null): Promise<number> {
  const {
    seeds: [seed = ''],
    json,
    safetyMs,
    trace: directory,
  } = options
  const clock = createClock()
  const start = clock.now()
  const commit = sourceCommit()
  const trace = json ? null : new ReadableTrace(out)
  const recorder = directory === null ? null : new SimRecorder(directory, seed)
  const result = await runSeed(seed, {
    ...(recorder === null ? {} : { recorder }),
    ...(trace === null ? {} : { onRecord: record => trace.observe(record) }),
    ...plantOf(canary, safetyMs),
  })
  trace?.finish(result.simulatedMs)
  recorder?.close()
  const summary = new Summary()
  summary.add(result)
  const report = summary.report([seed], clock.now() - start, commit)
  if (json) out(JSON.stringify(report))
  else for (const line of summaryLines(report)) out(line)
  for (const violation of result.violations.slice(0, 1)) {
    const proof = violation.records.map(({ process, seq, kind }) => `${kind} (${process} #${seq})`).join(', ')
    err(`found ${(violation.at / 1000).toFixed(4)} s into the run, by ${proof}`)
  }
  for (const line of failureLines(result, commit, canary, safetyMs)) err(line)
  return result.failure === null ? 0 : 1
}

function plantOf(canary: Canary | null, safetyMs: number | null): { canary?: string; tuning?: PlanTuning } {
  const tuning = safetyMs === null ? canary?.tuning : { ...canary?.tuning, safetyMs }
  return {
    ...(canary === null ? {} : { canary: canary.name }),
    ...(tuning === undefined ? {} : { tuning }),
  }
}

// --- a planted bug ---------------------------------------------------------------------------------------------------

async function search({ seeds, jobs, json, safetyMs }: SimOptions, canary: Canary): Promise<number> {
  const clock = createClock()
  const start = clock.now()
  const summary = new Summary()
  const progress = new Progress(seeds.length, () => clock.now())
  const found: SeedResult[] = []
  await runSeeds({ seeds, ...plantOf(canary, safetyMs) }, jobs, result => {
    summary.add(result)
    const hit = result.failure?.rule === canary.rule
    if (hit) found.push(result)
    else if (result.failure !== null) {
      progress.clear()
      err(`seed ${result.seed}: not by ${canary.rule} but by ${result.failure.rule}: ${result.failure.message}`)
    }
    progress.show(summary)
    return hit
  })
  progress.clear()
  const report = summary.report(seeds, clock.now() - start, sourceCommit())
  const [first] = found
  if (json) out(JSON.stringify({ ...report, canary: canary.name, rule: canary.rule, found: first?.seed ?? null }))
  else if (first === undefined) out(`${canary.name}: not found by ${canary.rule} within ${report.seeds} seeds`)
  else {
    const at = `${(first.simulatedMs / 1000).toFixed(1)} s into the run`
    out(`${canary.name} (${canary.what}): found by ${canary.rule} in seed ${first.seed}, ${at}`)
    out(`  ${first.failure?.message}`)
    out(`  replay it: ${replayCommand(first.seed, canary, safetyMs)}`)
  }
  return first === undefined ? 1 : 0
}
