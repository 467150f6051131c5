// `stellwerk trace check`: the monitors of the simulation over a recorded trace, and nothing else. It says which rules the trace
// keeps, which it breaks, and which it can't prove, and why; the command that prints it is commands/trace-check.ts.

import { createMonitors, type MonitorOptions } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { RuleId, Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import { compareOrder, compareRecords, mergeTraces, type TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import { LEVELS } from '@stellwerk/protocol/trace/segment-format.ts'
import type { TraceLevel, TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { OBSERVER } from '../observer/observer-name.ts'
import { type ChainLink, chainsOf } from './check-chain.ts'
import { ENDED_KIND, factsOf, type TraceFacts, timeOf } from './check-facts.ts'
import { beginnings } from './check-losses.ts'
import { canConvict, judgedInPart, whyNotJudged } from './check-rules.ts'
import type { TraceSource } from './source.ts'

/** Freezing takes a moment, and real guests' steps are recorded ten times a second. */
const REAL_SLACK_MS = 250
/** Those whose chain is told; the first ones tell the story. */
const CHAINS_MAX = 12

const SAID: ReadonlySet<string> = new Set(['guest.acknowledged', 'guest.recovered'])
/** Who may say what guests said: those outside all hosts. */
const HEARERS: ReadonlySet<string> = new Set([OBSERVER, 'simulator'])

export interface RuleVerdict {
  readonly rule: RuleId
  readonly verdict: 'kept' | 'broken' | 'not-judged'
  /** By how many records it was judged. */
  readonly records: number
  /** Why it was not judged, or only in part. */
  readonly why: string | null
}

/** A violation, its proof, and what led to it. */
export interface ToldViolation extends Violation {
  /** In the order in which it happened; the last is what broke the rule. Empty: too many violations. */
  readonly chain: readonly ChainLink[]
}

export interface CheckReport {
  readonly cluster: string | null
  /** The seed, of a simulated run. */
  readonly seed: string | null
  readonly processes: readonly string[]
  /** Looked at by any rule. */
  readonly records: number
  readonly rules: readonly RuleVerdict[]
  readonly violations: readonly ToldViolation[]
  /** Where records are missing. */
  readonly missing: readonly string[]
  /** Findings too close after such a place to count. */
  readonly doubtful: number
}

export interface CheckOptions {
  readonly rules: readonly RuleId[]
  readonly onDamaged?: (error: StellwerkError) => void
  readonly onTruncated?: NonNullable<TraceReadOptions['onTruncated']>
}

/** In an order that respects cause and effect. */
export function inOrder(
  source: TraceSource,
  simulated: boolean,
  options: TraceReadOptions,
  names?: readonly string[],
): AsyncGenerator<TraceRecord> {
  const streams = source.streamsOf(names).map(stream => source.batchesOf(stream, options))
  return mergeTraces(streams, simulated ? compareOrder : compareRecords)
}

export async function checkTrace(source: TraceSource, options: CheckOptions): Promise<CheckReport> {
  const tolerant: TraceReadOptions = options.onDamaged === undefined ? {} : { onDamaged: options.onDamaged }
  const facts = await factsOf(source, tolerant)
  const simulated = facts.kind === 'simulated'
  const rules = options.rules.filter(rule => !simulated || facts.facts.rules.includes(rule))
  const losses = await beginnings(source, facts, tolerant)
  const closing = new Map<Violation, TraceRecord | null>()
  const counts = new Map<string, number>()
  const levels = new Set<TraceLevel>()
  let current: TraceRecord | null = null
  const monitors = createMonitors({
    ...monitorOptions(facts),
    rules,
    onViolation: found => void closing.set(found, current),
  })
  const reading: TraceReadOptions = {
    ...tolerant,
    ...(options.onTruncated === undefined ? {} : { onTruncated: options.onTruncated }),
    filter: { kinds: [...monitors.kinds, 'trace.dropped', ENDED_KIND] },
    onGap: (error, before) => losses.add(timeOf(facts, before), `${error.message} (${error.where})`),
  }
  let records = 0
  let now = Number.NEGATIVE_INFINITY
  for await (const record of inOrder(source, simulated, reading)) {
    now = Math.max(now, timeOf(facts, record))
    if (record.kind === 'trace.dropped') {
      losses.add(now, `${record.process} has dropped records: its disk was too slow`)
      continue
    }
    if (record.kind === ENDED_KIND) continue
    if (!isHeard(record, facts)) continue
    records += 1
    counts.set(record.kind, (counts.get(record.kind) ?? 0) + 1)
    levels.add(record.level)
    current = record
    monitors.observe(record, timeOf(facts, record))
  }
  current = null
  monitors.finish(now)
  const trace = { simulated, levels: await levelsOf(source, levels, tolerant), whole: losses.isNone }
  const certain = [...closing.keys()].filter(each => !losses.casts(each.at) && canConvict(each.rule, trace))
  certain.sort((a, b) => a.at - b.at)
  // Not what would prove nothing with all records there, either.
  const doubtful = [...closing.keys()].filter(
    each => losses.casts(each.at) && canConvict(each.rule, { simulated, whole: true }),
  )
  const told = certain.slice(0, CHAINS_MAX)
  const chains = await chainsOf(
    () => inOrder(source, simulated, tolerant),
    told.map(violation => ({ violation, closing: closing.get(violation) ?? null })),
  )
  return {
    cluster: source.cluster,
    seed: simulated ? facts.facts.seed : null,
    processes: source.names,
    records,
    rules: options.rules.map(rule => verdictOf(rule)),
    violations: certain.map((each, i) => ({ ...each, chain: chains[i] ?? [] })),
    missing: losses.told,
    doubtful: doubtful.length,
  }

  function verdictOf(rule: RuleId): RuleVerdict {
    const judged = monitors.judged.get(rule) ?? 0
    if (!rules.includes(rule)) return { rule, verdict: 'not-judged', records: 0, why: 'the run has nothing of it' }
    const part = judgedInPart(rule, counts)
    if (certain.some(each => each.rule === rule)) return { rule, verdict: 'broken', records: judged, why: part }
    const doubted = doubtful.filter(each => each.rule === rule).length
    const near = losses.isEverywhere
      ? `${doubted} ${doubted === 1 ? 'finding' : 'findings'} may be for want of a trace that is not here`
      : `${doubted} ${doubted === 1 ? 'finding stands' : 'findings stand'} too near to where records are missing`
    const why = doubted > 0 ? near : (whyNotJudged(rule, counts, trace) ?? ofLease(rule))
    if (why !== null) return { rule, verdict: 'not-judged', records: 0, why }
    return { rule, verdict: 'kept', records: judged, why: part }
  }

  /** By a lease that is a guess nothing is kept. */
  function ofLease(rule: RuleId): string | null {
    if (rule !== 'FEN2' || facts.kind === 'simulated' || facts.leaseKnown || counts.has('lease.granted')) return null
    return 'needs the lease, of which only the coordinator’s trace tells'
  }
}

export function monitorOptions(facts: TraceFacts): MonitorOptions {
  if (facts.kind === 'real') {
    const { leaseMs, driftFraction } = facts
    return { vm2: { mayMissLines: true }, fen2: { slackMs: REAL_SLACK_MS, leaseMs, driftFraction } }
  }
  const { driftFraction, extents, mayMissLines = [] } = facts.facts
  const extentAt = (_: string, offset: number): number | null =>
    offset < extents.offset ? null : Math.floor((offset - extents.offset) / extents.bytes)
  return { fen2: { driftFraction }, csv2: { extentAt }, vm2: { mayMissLines: vm => mayMissLines.includes(vm) } }
}

/** What guests acknowledged is what was heard outside, not what their hosts say of them. */
export function isHeard({ kind, process }: TraceRecord, { kind: of }: TraceFacts): boolean {
  return of === 'simulated' || !SAID.has(kind) || HEARERS.has(process)
}

/** Which levels the trace has at all, told by few records: those that were judged, and each stream's first ones. */
async function levelsOf(
  source: TraceSource,
  seen: ReadonlySet<TraceLevel>,
  options: TraceReadOptions,
): Promise<ReadonlySet<TraceLevel>> {
  const levels = new Set(seen)
  for (const level of LEVELS) {
    if (levels.has(level)) continue
    for await (const _ of source.records({ ...options, filter: { levels: [level] } })) {
      levels.add(level)
      break
    }
  }
  return levels
}
