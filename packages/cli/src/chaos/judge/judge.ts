// The verdict of a run, from its records alone, by the same code for every target: the rules of docs/SPEC.md by their
// monitors, the plan's objectives, and whether anything happened at all.

import type { RuleId, Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { Fault } from '../fault.ts'
import type { ChaosPlan } from '../plan/plan.ts'
import type { ChaosTarget } from '../target.ts'
import { History } from './history.ts'
import { judgeObjective, type ObjectiveResult } from './objectives.ts'
import { chosenRules, monitorsOn } from './rules.ts'

export interface Judgement {
  readonly verdict: 'pass' | 'fail'
  readonly violations: readonly Violation[]
  readonly objectives: readonly ObjectiveResult[]
  /** What the target found by looking, or what ended the run. */
  readonly findings: readonly string[]
  /** What the run lacks to prove anything; null: nothing. */
  readonly lack: string | null
  /** Rule → the records that it was judged by. */
  readonly judged: { readonly [rule: string]: number }
  readonly history: History
}

export interface Evidence {
  readonly plan: ChaosPlan
  readonly kind: ChaosTarget['kind']
  readonly vms: readonly string[]
  readonly schedule: readonly Fault[]
  readonly findings: readonly string[]
  readonly records: AsyncIterable<{ readonly record: TraceRecord; readonly now: number }>
  /** Of the simulator's volume. */
  readonly volumeBytes?: number
  /** A run that was cut short, by a violation's search or by hand, need not have substance. */
  readonly cutShort?: boolean
}

export async function judge(evidence: Evidence): Promise<Judgement> {
  const { plan, kind, vms, findings, records } = evidence
  const rules = chosenRules(plan, kind)
  const monitors = monitorsOn(kind, rules, evidence.volumeBytes)
  const history = new History(vms)
  for await (const { record, now } of records) {
    monitors.observe(record, now)
    history.observe(record, now)
  }
  monitors.finish(history.last)
  const { violations } = monitors
  const objectives = plan.objectives.map(objective => judgeObjective(objective, history))
  const lack = lackOf(evidence, history, monitors.judged, monitors.givenUp) ?? unmeasured(evidence, objectives)
  const holds = violations.length === 0 && findings.length === 0 && objectives.every(({ ok }) => ok) && lack === null
  return {
    verdict: holds ? 'pass' : 'fail',
    violations,
    objectives,
    findings,
    lack,
    judged: Object.fromEntries(monitors.judged),
    history,
  }
}

function lackOf(
  { plan, vms, schedule, cutShort }: Evidence,
  { faults, idle: nothing, vms: histories }: History,
  judged: ReadonlyMap<RuleId, number>,
  givenUp: number,
): string | null {
  if (cutShort === true) return null
  const begun = faults.length + nothing.size
  if (begun === 0) return 'nothing was broken: no fault ever began'
  if (begun < schedule.length) return `only ${begun} of ${schedule.length} faults began`
  if (faults.length === 0) return 'nothing was broken: each fault found nothing to hit, or found it down already'
  const silent = vms.filter(vm => (histories.get(vm)?.acknowledged.length ?? 0) === 0)
  if (silent.length > 0) return `${silent.join(', ')} never acknowledged an entry`
  // Asked for by name, a rule has to be judged; of all that there are, some need what this plan does not do.
  const idle = (plan.rules ?? []).find(rule => judged.get(rule) === 0)
  if (idle !== undefined) return `${idle} was judged by no record at all`
  return givenUp > 0 ? `${givenUp} sectors could not be judged by IO1 for want of room` : null
}

/** An objective is kept by what was measured, and by nothing else. */
function unmeasured({ cutShort }: Evidence, objectives: readonly ObjectiveResult[]): string | null {
  const empty = cutShort === true ? undefined : objectives.find(({ value }) => value === null)
  if (empty === undefined) return null
  const why = empty.disturbed === 0 ? '' : `: each of ${empty.disturbed} was under other faults`
  return `nothing was measured for the objective ${empty.name}${why}`
}

/** All that keeps the run from having held, in words; empty: it held. Of each rule the first violation, and how many more. */
export function failuresOf(
  { violations, findings, objectives, lack }: Judgement,
  say: (objective: ObjectiveResult) => string,
): string[] {
  const rules = [...new Set(violations.map(({ rule }) => rule))]
  return [
    ...rules.map(rule => {
      const [first, ...others] = violations.filter(each => each.rule === rule)
      const more = others.length === 0 ? '' : `, and ${others.length} more`
      return `${rule}: ${first?.message} (${((first?.at ?? 0) / 1_000).toFixed(3)} s${more})`
    }),
    ...findings,
    ...objectives.filter(({ ok }) => !ok).map(each => `objective ${say(each)}`),
    ...(lack === null ? [] : [lack]),
  ]
}
