// What each rule of docs/SPEC.md is judged by in a recorded trace: which records prove something, who makes them at which level,
// and what a trace of a real cluster can't prove, however long it is. The judging itself is the monitors'.

import { RULES, type RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceLevel } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface RuleEvidence {
  /** Without one of these nothing is proved. */
  readonly kinds: readonly string[]
  /** At which they are recorded. */
  readonly level: TraceLevel
  /** Who makes them, where not every cluster has it. */
  readonly by?: string
  /** Further records it is judged by, which are finer: without them only part of it is. */
  readonly finer?: readonly string[]
  /** Why a real cluster's trace does not do. */
  readonly onlySimulated?: string
  /** It counts from the very first record on: with a piece missing it can't be judged any more. */
  readonly needsAll?: true
}

const LAST_WORDS =
  'a process that is killed takes its last records along, and a write may be on the disk and not on record'
const SEES_ALL = 'only somebody who sees all disks and cables can tell'

export const EVIDENCE: { readonly [rule in RuleId]: RuleEvidence } = {
  VM1: { kinds: ['guest.step'], level: 'io' },
  VM2: {
    kinds: ['guest.acknowledged', 'guest.recovered'],
    level: 'io',
    by: 'an observer outside all hosts',
    needsAll: true,
  },
  MIG1: { kinds: ['migration.committed', 'machine.loaded'], level: 'decision', finer: ['guest.step'] },
  MIG2: { kinds: ['migration.aborted', 'machine.released'], level: 'decision', finer: ['guest.step'] },
  MIG3: { kinds: ['machine.loaded'], level: 'decision' },
  CSV1: { kinds: ['storage.applied'], level: 'io' },
  CSV2: {
    kinds: ['extent.granted', 'extent.copied', 'extent.freed', 'disk.cloned', 'extent.recovered'],
    level: 'decision',
    finer: ['storage.applied'],
    needsAll: true,
  },
  CSV3: { kinds: ['extent.granted'], level: 'decision' },
  IO1: { kinds: ['disk.ok'], level: 'io', onlySimulated: LAST_WORDS, needsAll: true },
  IO2: { kinds: ['storage.acknowledged'], level: 'io', onlySimulated: LAST_WORDS, needsAll: true },
  IO3: { kinds: ['storage.applied'], level: 'io' },
  MIR1: { kinds: ['mirror.compared', 'mirror.spoiled'], level: 'decision', onlySimulated: SEES_ALL },
  RIO1: { kinds: ['reach.observed'], level: 'io', onlySimulated: SEES_ALL },
  RIO2: { kinds: ['reach.observed'], level: 'io', onlySimulated: SEES_ALL },
  FEN1: { kinds: ['failover.start'], level: 'decision' },
  FEN2: { kinds: ['guest.step'], level: 'io' },
  NET1: { kinds: ['network.delivered'], level: 'io' },
  NET2: { kinds: ['network.delivered'], level: 'io' },
  LIV1: { kinds: ['faults.ended'], level: 'decision', by: 'who made the faults' },
}

/** The rules asked for, all if none. Throws `unknown-rule`. */
export function rulesNamed(names: readonly string[]): RuleId[] {
  if (names.length === 0) return [...RULES]
  return names.map(name => {
    const rule = RULES.find(each => each === name.toUpperCase())
    if (rule !== undefined) return rule
    throw new StellwerkError('unknown-rule', `there is no rule "${name}" that a trace is judged by`, {
      where: '--rule',
      hint: `there are ${RULES.join(', ')}`,
    })
  })
}

/** Whether what its monitor finds in such a trace proves anything. */
export function canConvict(rule: RuleId, trace: { readonly simulated: boolean; readonly whole: boolean }): boolean {
  const { onlySimulated, needsAll } = EVIDENCE[rule]
  return (onlySimulated === undefined || trace.simulated) && (needsAll !== true || trace.whole)
}

/** Why it can't be judged by what is there; null: it can. `counts`: records by kind. */
export function whyNotJudged(
  rule: RuleId,
  counts: ReadonlyMap<string, number>,
  trace: { readonly simulated: boolean; readonly levels: ReadonlySet<TraceLevel>; readonly whole: boolean },
): string | null {
  const { kinds, level, by, onlySimulated, needsAll } = EVIDENCE[rule]
  if (onlySimulated !== undefined && !trace.simulated) return `not by a real cluster’s trace: ${onlySimulated}`
  if (!kinds.some(kind => counts.has(kind))) {
    const which = kinds.join(' or ')
    if (!trace.levels.has(level)) return `needs ${which}, recorded at level ${level}; this trace has none of that level`
    return by === undefined ? `nothing to judge: no ${which}` : `needs ${which}, recorded by ${by}`
  }
  if (needsAll === true && !trace.whole) return 'records are missing, and it counts from the first one on'
  return null
}

/** What of a rule is left out for want of finer records; null: nothing. */
export function judgedInPart(rule: RuleId, counts: ReadonlyMap<string, number>): string | null {
  const lacking = (EVIDENCE[rule].finer ?? []).filter(kind => !counts.has(kind))
  return lacking.length === 0 ? null : `in part: without ${lacking.join(', ')} (level io)`
}
