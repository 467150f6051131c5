// Shrinks a failed run of a random plan in the simulator, to a plan of fixed faults that fails in the same way.

import type { RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { Fault } from './fault.ts'
import type { Judgement } from './judge/judge.ts'
import { chosenRules, monitorsOn } from './judge/rules.ts'
import { drawSchedule } from './plan/draw.ts'
import type { ChaosPlan } from './plan/plan.ts'
import { writePlan } from './plan/write-plan.ts'
import { runPlan } from './run.ts'
import { type Candidate, shrink } from './shrink.ts'
import { SimTarget } from './sim/sim-target.ts'
import { volumeBytes } from './sim/sim-volume.ts'

/** In what way a run fails: the rule, or the objective, or that something was found wrong. */
export interface FailureKey {
  readonly what: 'rule' | 'objective' | 'finding'
  readonly name: string
  /** Of the violation, in the run. */
  readonly atMs: number | null
}

/** Null: it does not fail, or in no way that could be shrunk. */
export function failureKey({ violations, objectives, findings }: Judgement): FailureKey | null {
  const [violation] = violations
  if (violation !== undefined) return { what: 'rule', name: violation.rule, atMs: violation.at }
  if (findings.length > 0) return { what: 'finding', name: 'finding', atMs: null }
  const missed = objectives.find(({ ok }) => !ok)
  return missed === undefined ? null : { what: 'objective', name: missed.name, atMs: null }
}

export interface ShrunkPlan {
  readonly yaml: string
  readonly faults: number
  readonly runs: number
  readonly isCutShort: boolean
}

export interface ShrinkOptions {
  readonly plan: ChaosPlan
  readonly seed: string
  readonly key: FailureKey
  readonly canary?: string
  readonly stop?: () => boolean
  readonly onProgress?: (line: string) => void
  readonly runsMax?: number
}

/** A run goes on for so long behind the moment at which the violation came. */
const AFTER_MS = 1_000

/** Null: the simulator does not show that failure at all, or can't do the faults. */
export async function shrinkRun(options: ShrinkOptions): Promise<ShrunkPlan | null> {
  const { plan, seed, key, onProgress } = options
  const drawn = drawSchedule(plan, seed)
  // What began after the violation has no part in it.
  const endMs = key.atMs === null || key.name === 'LIV1' ? plan.durationMs : Math.ceil(key.atMs) + AFTER_MS
  const isEarly = endMs < plan.durationMs
  const whole: Candidate = isEarly
    ? { plan: { ...plan, durationMs: endMs }, schedule: cutAt(drawn, endMs) }
    : { plan, schedule: drawn }
  const fails = async (candidate: Candidate): Promise<boolean> => {
    const does = await failsAlike(candidate, options, isEarly)
    const { schedule } = candidate
    onProgress?.(`${schedule.length} faults: ${does ? 'fails alike' : 'does not'}`)
    return does
  }
  try {
    if (!(await fails(whole))) return null
  } catch (error) {
    if (errorCode(error) === 'fault-unsupported') return null
    throw error
  }
  const { runs, isCutShort, ...least } = await shrink(whole, fails, options.runsMax)
  const comment = [
    `What is left of ${plan.name}, seed ${seed}, which failed by ${key.name}: ${least.schedule.length} of ${drawn.length} faults.`,
  ]
  const fixed = { ...least.plan, name: `${plan.name}-shrunk`.slice(0, 63), random: null }
  return { yaml: writePlan(fixed, least.schedule, seed, comment), faults: least.schedule.length, runs, isCutShort }
}

function cutAt(faults: readonly Fault[], endMs: number): Fault[] {
  return faults
    .filter(({ atMs }) => atMs < endMs)
    .map(fault => ({ ...fault, lastsMs: Math.min(fault.lastsMs, endMs - fault.atMs) }))
}

/** What rules see, they see as it happens: such a run is over with the first violation, or soon after its time of faults. */
async function failsAlike({ plan, schedule }: Candidate, options: ShrinkOptions, isEarly: boolean): Promise<boolean> {
  const { seed, key, canary } = options
  const numbered = schedule.map((fault, i) => ({ ...fault, id: i + 1 }))
  const monitors = monitorsOn('sim', chosenRules(plan, 'sim'), volumeBytes(plan.workload))
  const target = new SimTarget(plan.cluster, (record, now) => monitors.observe(record, now))
  const broken = (): boolean => monitors.found.has(key.name as RuleId)
  const stop = (): boolean =>
    options.stop?.() === true || (key.what === 'rule' && broken()) || (isEarly && target.now() > plan.durationMs)
  const result = await runPlan(target, {
    ...{ plan, seed, schedule: numbered, stop },
    ...(canary === undefined ? {} : { canary }),
  })
  switch (key.what) {
    case 'rule':
      return broken() || result.violations.some(({ rule }) => rule === key.name)
    case 'objective':
      return result.objectives.some(({ name, ok }) => name === key.name && !ok)
    default:
      return result.findings.length > 0 && !result.interrupted
  }
}
