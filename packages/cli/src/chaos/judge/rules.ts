// Which rules the records of a target can prove or disprove, and how each target's records are to be read.

import { planLayout } from '@stellwerk/csv/format/layout.ts'
import { createMonitors, type MonitorOptions, type MonitorSet } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { RULES, type RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { JUDGED, SLACK_MS } from '../../demo/judge.ts'
import type { ChaosPlan } from '../plan/plan.ts'
import type { ChaosTarget } from '../target.ts'

/** Guests of a plan have no network cards: nothing is ever delivered that NET1 and NET2 could judge. */
const IN_SIMULATION = RULES.filter(rule => !rule.startsWith('NET'))

type ChosenRules = Pick<ChaosPlan, 'rules' | 'rulesWhere'>

export function rulesOn(kind: ChaosTarget['kind']): readonly RuleId[] {
  return kind === 'sim' ? IN_SIMULATION : JUDGED
}

/** Of a plan that names none, all that can be judged there. Throws `rule-unsupported`. */
export function chosenRules({ rules, rulesWhere }: ChosenRules, kind: ChaosTarget['kind']): readonly RuleId[] {
  const known = rulesOn(kind)
  const unknown = (rules ?? []).findIndex(rule => !known.includes(rule))
  if (unknown === -1) return rules ?? known
  throw new StellwerkError('rule-unsupported', `rule ${rules?.[unknown]} can’t be judged on ${kind}`, {
    where: rulesWhere[unknown] ?? 'hold.rules',
    hint: `there it is: ${known.join(', ')}; or say "all"`,
  })
}

/** `volumeBytes`: of the simulator’s volume, whose writes are judged by where they land. */
export function monitorsOn(
  kind: ChaosTarget['kind'],
  rules: readonly RuleId[],
  volumeBytes: number | undefined,
): MonitorSet {
  return createMonitors({ rules, ...(kind === 'sim' ? simulated(volumeBytes) : real()) })
}

function simulated(volumeBytes: number | undefined): MonitorOptions {
  const drift = { fen2: { driftFraction: PROFILES.lab.drift } }
  if (volumeBytes === undefined) return drift
  const layout = planLayout({ volumeId: 'any', clusterId: 'any', volumeBytes })
  const extentAt = (_volume: string, offset: number): number | null =>
    offset < layout.dataOffset ? null : Math.floor((offset - layout.dataOffset) / layout.extentBytes)
  return { ...drift, csv2: { extentAt } }
}

/** Lines on the way to the observer may be lost with a process, and records of steps are ten a second. */
function real(): MonitorOptions {
  return { vm2: { mayMissLines: true }, fen2: { slackMs: SLACK_MS, leaseMs: PROFILES.lab.leaseMs } }
}
