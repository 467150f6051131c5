// `stellwerk chaos …`: plans that break a cluster and say whether it held; single acts are in chaos-acts.ts.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type ChaosOptions, freshSeed, planOf, runMany, runOnce } from '../chaos/chaos-command.ts'
import { describeFault } from '../chaos/describe-fault.ts'
import { drawnFor, mustAskTarget, targetsOf } from '../chaos/doable.ts'
import { whereOf } from '../chaos/plan/draw.ts'
import { findPlan, libraryPlans } from '../chaos/plan/library.ts'
import { parsePlan } from '../chaos/plan/parse-plan.ts'
import { durationOf, formatDuration } from '../chaos/plan/quantity.ts'
import { placed } from '../chaos/run.ts'
import { RunReports } from '../chaos/run-reports.ts'
import { TARGETS, targetNamed } from '../chaos/targets.ts'
import { type CommandContext, type CommandSpec, type Input, JSON_OUT, OK } from '../command-line/command.ts'
import { usageError } from '../command-line/parse.ts'
import { parseCount } from '../command-line/values.ts'
import { table } from '../render/table.ts'
import { CANARIES, canaryNamed } from '../simulation/canaries.ts'
import { commands as acts } from './chaos-acts.ts'

const SIM = 'sim'
const SEEDS_MAX = 1_000_000
const JOBS_MAX = 64
const DURATION_MIN_MS = 1_000
const DURATION_MAX_MS = 3_600_000

const ON = { type: 'string', value: 'TARGET', help: `${Object.keys(TARGETS).join(', ')} (sim)` } as const
const SEED = { type: 'string', value: 'S', help: 'of everything drawn (the plan’s, or a new one)' } as const
const DURATION = { type: 'string', value: 'D', help: 'the time of faults, instead of the plan’s: 5min' } as const

const list: CommandSpec = {
  words: 'chaos list',
  args: [],
  options: { json: JSON_OUT },
  summary: 'The plans of the library',
  run: async ({ terminal }, input) => {
    const plans = (await libraryPlans()).map(({ file, source }) => parsePlan(file, source))
    const on = await Promise.all(plans.map(targetsOf))
    if (input.flag('json')) {
      const listed = plans.map(({ name, summary, durationMs }, i) => ({ name, summary, durationMs, on: on[i] }))
      terminal.out(JSON.stringify(listed))
      return OK
    }
    const rows = plans.map(({ name, durationMs, summary }, i) => [
      ...[name, formatDuration(durationMs), on[i]?.join(', ') ?? ''],
      summary,
    ])
    for (const line of table(['PLAN', 'LASTS', 'RUNS ON', 'WHAT IT DOES'], rows)) terminal.out(line)
    return OK
  },
}

const show: CommandSpec = {
  words: 'chaos show',
  args: ['PLAN'],
  options: { on: ON, seed: SEED, duration: DURATION, json: JSON_OUT },
  summary: 'A plan’s faults, as a seed draws them; starts nothing',
  run: async (context, input) => {
    const { plan, seed, schedule } = await looked(show, context, input)
    const { terminal } = context
    if (input.flag('json')) {
      terminal.out(JSON.stringify({ name: plan.name, seed, durationMs: plan.durationMs, faults: schedule }))
      return OK
    }
    terminal.out(`${plan.name}: ${plan.summary}`)
    terminal.out(`seed ${seed}, ${formatDuration(plan.durationMs)} of faults, ${schedule.length} of them`)
    const rows = schedule.map(fault => [`${(fault.atMs / 1_000).toFixed(1)} s`, `#${fault.id}`, describeFault(fault)])
    for (const line of table(['AT', '', 'FAULT'], rows)) terminal.out(line)
    return OK
  },
}

const check: CommandSpec = {
  words: 'chaos check',
  args: ['PLAN'],
  options: { on: ON, seed: SEED, duration: DURATION, json: JSON_OUT },
  summary: 'Whether a plan is sound and can be done on a target; starts nothing',
  run: async (context, input) => {
    const { plan, seed, schedule, on } = await looked(check, context, input)
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify({ name: plan.name, seed, on, faults: schedule.length, ok: true }))
    } else
      context.terminal.out(
        `${plan.name} is sound: ${schedule.length} faults with seed ${seed}, all can be done on ${on}`,
      )
    return OK
  },
}

const run: CommandSpec = {
  words: 'chaos run',
  args: ['PLAN'],
  options: {
    on: ON,
    seed: SEED,
    seeds: { type: 'string', value: 'N', help: 'so many seeds, in the simulator' },
    first: { type: 'string', value: 'S', help: 'the first of them (1)' },
    jobs: { type: 'string', value: 'J', help: 'seeds at the same time (1)' },
    duration: DURATION,
    report: { type: 'string', value: 'DIR', help: 'write report.md, report.html, junit.xml and result.json there' },
    keep: {
      type: 'boolean',
      help: 'what real processes leave stays when the run is over, for stellwerk trace; it does when the run failed',
    },
    'no-shrink': { type: 'boolean', help: 'a failure is not shrunk to a smaller plan' },
    canary: { type: 'string', value: 'NAME', help: 'for tests: plant this bug, which the run must find' },
    json: JSON_OUT,
  },
  summary: 'Break a cluster as the plan says, and judge whether it held',
  run: async (context, input) => {
    const [plan = ''] = input.args
    const names = { plan, on: input.text('on') ?? SIM, seed: input.text('seed') ?? '' }
    const wanted = { report: input.text('report') ?? null, json: input.flag('json'), terminal: context.terminal }
    const reports = await RunReports.open(wanted, names)
    try {
      const options = await optionsOf(run, context, input)
      const seeds = seedsOf(run, input, options.on)
      if (seeds === null) return await runOnce(options, reports)
      return await runMany(options, seeds, parseCount('jobs', input.text('jobs') ?? '1', 1, JOBS_MAX), reports)
    } catch (error) {
      if (error instanceof StellwerkError) await reports.refused(error)
      throw error
    }
  },
}

export const commands: readonly CommandSpec[] = [list, show, check, run, ...acts]

async function optionsOf(command: CommandSpec, context: CommandContext, input: Input): Promise<ChaosOptions> {
  const { terminal } = context
  const [word = ''] = input.args
  const on = targetNamed(input.text('on') ?? SIM).kind
  return {
    ...{ word, on, terminal, source: await findPlan(word, terminal.cwd) },
    seed: seedOf(command, input),
    durationMs: lasting(input.text('duration')),
    report: input.text('report') ?? null,
    json: input.flag('json'),
    canary: canaryOf(input.text('canary'), on),
    shrinks: !input.flag('no-shrink'),
    keeps: input.flag('keep'),
  }
}

/** Reads the plan and draws it; asks the target of every fault. Throws what is wrong with it. */
async function looked(command: CommandSpec, context: CommandContext, input: Input) {
  const options = await optionsOf(command, context, input)
  const plan = planOf(options)
  const seed = options.seed ?? plan.seed ?? freshSeed()
  const { kind, make } = targetNamed(options.on)
  const schedule = drawnFor(plan, seed, kind)
  if (!mustAskTarget(kind, schedule)) return { plan, seed, schedule, on: kind }
  const target = await make(plan.cluster, { keep: () => false, say: () => undefined })
  try {
    for (const fault of schedule) {
      const refusal = target.refuses(fault)
      if (refusal !== null) throw placed(refusal, whereOf(plan, fault))
    }
  } finally {
    await target.close()
  }
  return { plan, seed, schedule, on: options.on }
}

function seedOf(command: CommandSpec, input: Input): string | null {
  const seed = input.text('seed')
  if (seed === undefined) return null
  if (!/^[\w.-]{1,200}$/.test(seed)) throw usageError(command, `"${seed}" is no seed: say a number, or a word`)
  return seed
}

function seedsOf(command: CommandSpec, input: Input, on: string): readonly string[] | null {
  const seeds = input.text('seeds')
  if (seeds === undefined) {
    const alone = ['first', 'jobs'].find(name => input.text(name) !== undefined)
    if (alone !== undefined) throw usageError(command, `--${alone} is for --seeds`)
    return null
  }
  if (input.text('seed') !== undefined) throw usageError(command, '--seed names one seed, --seeds is for many')
  if (on !== 'sim') throw usageError(command, `--seeds is for the simulator, not for ${on}`)
  const count = parseCount('seeds', seeds, 1, SEEDS_MAX)
  const first = parseCount('first', input.text('first') ?? '1', 0, Number.MAX_SAFE_INTEGER - SEEDS_MAX)
  return Array.from({ length: count }, (_, i) => String(first + i))
}

function lasting(text: string | undefined): number | null {
  if (text === undefined) return null
  const ms = durationOf(text)
  if (ms !== null && ms >= DURATION_MIN_MS && ms <= DURATION_MAX_MS) return ms
  throw new StellwerkError('bad-duration', `"${text}" is no duration from 1s to 1h`, {
    where: '--duration',
    hint: 'say 90s or 5min',
  })
}

function canaryOf(name: string | undefined, on: string): string | null {
  if (name === undefined) return null
  if (canaryNamed(name) === null) {
    throw new StellwerkError('unknown-canary', `there is no canary "${name}"`, {
      where: '--canary',
      hint: `there are ${CANARIES.map(each => each.name).join(', ')}`,
    })
  }
  if (on === 'sim') return name
  throw new StellwerkError('bad-canary', 'a bug is only planted in the simulator', {
    where: '--canary',
    hint: 'say --on sim',
  })
}
