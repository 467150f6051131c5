// From a plan and a seed to the faults of a run, all of it drawn ahead: the same plan and seed give the same schedule, on
// every target. Pure.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { describeFault } from '../describe-fault.ts'
import type { Fault } from '../fault.ts'
import { completeChoice } from './fault-table.ts'
import { BlastRadius } from './limits.ts'
import type { ChaosPlan, FixedFault, RandomFaults, RandomKind } from './plan.ts'
import { formatDuration } from './quantity.ts'

/** Random faults of one run; a plan that asks for more is not one that a run would be through with. */
const FAULTS_MAX = 5_000
/** A fault cut shorter than this by the end of the time of faults is left out. */
const LASTS_MIN_MS = 200

/** In the order of `atMs`, numbered from 1. Fixed faults are as the plan says; random ones keep its limits. */
export function drawSchedule(plan: ChaosPlan, seed: string): Fault[] {
  const random = new SimRandom(`chaos/${seed}`)
  const radius = new BlastRadius(plan.limits, plan.cluster.storages)
  const faults = plan.faults.map((fixed, i) => drawFixed(plan, fixed, random.fork(`fixed/${i}`)))
  for (const fault of faults) radius.add(fault)
  if (plan.random !== null) faults.push(...drawRandom(plan, plan.random, radius, random.fork('random')))
  return faults.sort((a, b) => a.atMs - b.atMs || a.id - b.id).map((fault, i) => ({ ...fault, id: i + 1 }))
}

/** Throws `bad-plan` at the first fixed fault that breaks a limit of the plan. Whom it hits may hang on the seed. */
export function assertWithinLimits(plan: ChaosPlan, seed: string): void {
  const random = new SimRandom(`chaos/${seed}`)
  const radius = new BlastRadius(plan.limits, plan.cluster.storages)
  for (const [i, fixed] of plan.faults.entries()) {
    const fault = drawFixed(plan, fixed, random.fork(`fixed/${i}`))
    const limit = radius.breaks(fault)
    if (limit !== null) {
      throw new StellwerkError(
        'bad-plan',
        `${describeFault(fault)} at ${formatDuration(fault.atMs)} breaks a limit: ${limit}`,
        {
          where: fixed.where,
          hint: 'put it off, or widen "limits"',
        },
      )
    }
    radius.add(fault)
  }
}

/** Which line of the plan a fault that was drawn from it is by; null: none, it is another plan's. */
export function whereOf(plan: ChaosPlan, { kind, atMs }: Fault): string | null {
  const fixed = plan.faults.find(each => each.kind === kind && each.atMs === atMs)
  const drawn = plan.random?.kinds.find(each => each.kind === kind)
  return (fixed ?? drawn)?.where ?? null
}

function drawFixed({ cluster }: ChaosPlan, { kind, atMs, lastsMs, choice }: FixedFault, random: SimRandom): Fault {
  const lasts = between(lastsMs, random)
  return { id: 0, kind, atMs, lastsMs: lasts, ...completeChoice(kind, choice, cluster, random) }
}

function drawRandom(plan: ChaosPlan, faults: RandomFaults, radius: BlastRadius, random: SimRandom): Fault[] {
  const { fromMs, untilMs, meanGapMs, kinds } = faults
  const drawn: Fault[] = []
  let at = fromMs + random.float() * meanGapMs
  for (; at < untilMs && drawn.length < FAULTS_MAX; at += Math.max(1, random.float() * 2 * meanGapMs)) {
    const { kind, lastsMs, choice } = pick(kinds, random)
    const lasts = between(lastsMs, random)
    const wanted: Fault = {
      ...{ id: drawn.length + 1, kind, atMs: Math.round(at), lastsMs: lasts },
      ...completeChoice(kind, choice, plan.cluster, random),
    }
    // Put off until the limits allow it, or left out.
    const atMs = radius.firstFit(wanted, untilMs)
    if (atMs === null) continue
    const fault = { ...wanted, atMs, lastsMs: Math.min(lasts, plan.durationMs - atMs) }
    if (fault.lastsMs < LASTS_MIN_MS) continue
    radius.add(fault)
    drawn.push(fault)
  }
  return drawn
}

function between([least, most]: readonly [number, number], random: SimRandom): number {
  return least + random.int(most - least + 1)
}

function pick(kinds: readonly RandomKind[], random: SimRandom): RandomKind {
  let left = random.float() * kinds.reduce((sum, { weight }) => sum + weight, 0)
  for (const kind of kinds) {
    left -= kind.weight
    if (left < 0) return kind
  }
  return kinds.at(-1)!
}
