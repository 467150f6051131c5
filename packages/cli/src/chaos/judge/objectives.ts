// The objectives of a plan, measured on a run's history. Times are the guests' and the hosts' own deeds: what was decided
// counts for nothing.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import type { FaultKind } from '../fault.ts'
import type { Objective } from '../plan/plan.ts'
import { formatDuration } from '../plan/quantity.ts'
import type { Failover, FaultSpan, History } from './history.ts'

/** One outage of a VM, or one pause, that an objective is about. */
export interface Sample {
  readonly vm: string
  readonly from: number
  readonly to: number
  readonly ms: number
  /** Another fault was in force meanwhile. */
  readonly disturbed: boolean
  /** For people. */
  readonly what: string
}

export interface ObjectiveResult {
  readonly name: string
  /** Milliseconds, or a count; null: there was nothing to measure, and a whole run proves nothing then. */
  readonly value: number | null
  readonly limit: number
  readonly ok: boolean
  /** Of how many, and how many more were not held to it since other faults were in force. */
  readonly samples: number
  readonly disturbed: number
  readonly unit: 'ms' | 'count'
  /** The one that the value is of. */
  readonly worst: Sample | null
}

/** Faults that take a host's guests from it. */
const DEADLY: ReadonlySet<FaultKind> = new Set([
  'agent-kill',
  'host-kill',
  'host-pause',
  'host-restart',
  'host-isolate',
])

export function judgeObjective(objective: Objective, history: History): ObjectiveResult {
  switch (objective.name) {
    case 'migrations':
      return atLeast(objective.name, history.migrationsCommitted, objective.atLeast)
    case 'failovers':
      return atLeast(objective.name, history.failovers.length, objective.atLeast)
    case 'failover':
      return within(objective, failoverSamples(history, false), history, worstOf)
    case 'failover-attested':
      return within(objective, failoverSamples(history, true), history, worstOf)
    case 'downtime-p99':
      return within(objective, pauseSamples(history), history, p99Of)
    case 'downtime-max':
      return within(objective, pauseSamples(history), history, worstOf)
    case 'outage':
      return within({ ...objective, disturbed: true }, outageSamples(history), history, worstOf)
    default:
      return unreachable(objective)
  }
}

/** From the loss to the next entry; a VM that has acknowledged nothing since is down until the records end. */
export function failoverSamples(history: History, attested: boolean): Sample[] {
  return history.failovers
    .filter(failover => failover.attested === attested)
    .map(failover => {
      const { vm, from, to, at } = failover
      const fault = lossOf(history, failover)
      const acknowledged = history.vms.get(vm)?.acknowledged ?? []
      const before = acknowledged.findLast(entry => entry <= at) ?? at
      // A host may go on for a while once nobody hears it: what its guest still acknowledged was no outage.
      const begun = Math.min(at, Math.max(fault?.from ?? before, before))
      const end = acknowledged.find(entry => entry > at) ?? history.last
      return {
        ...{ vm, from: begun, to: end, ms: end - begun },
        disturbed: history.disturbed(begun, end, fault),
        what: `${vm} from ${from} to ${to}${fault === null ? '' : ` (${fault.kind} #${fault.id})`}`,
      }
    })
}

/** The fault that took the VM's host: the latest before the decision. */
function lossOf(history: History, { from, at }: Failover): FaultSpan | null {
  return history.faults.findLast(fault => fault.host === from && fault.from <= at && DEADLY.has(fault.kind)) ?? null
}

export function pauseSamples(history: History): Sample[] {
  return history.pauses.map(({ vm, from, to, migration }) => ({
    ...{ vm, from, to, ms: to - from },
    disturbed: history.disturbed(from, to),
    what: `${vm}${migration === null ? '' : `, migration ${migration}`}`,
  }))
}

/** Of each VM the longest time between two entries while it should run. */
export function outageSamples(history: History): Sample[] {
  return [...history.vms].map(([vm, { acknowledged }]) => {
    const { from, to } = longestGap(acknowledged, 0, endOf(history))
    return { vm, from, to, ms: to - from, disturbed: history.disturbed(from, to), what: vm }
  })
}

/** Until then all VMs should have run: afterwards they are stopped in order. */
export function endOf({ ended, last }: History): number {
  return ended === null ? last : Math.min(last, ended.at + ended.withinMs)
}

function longestGap(instants: readonly number[], start: number, end: number): { from: number; to: number } {
  let longest = { from: start, to: start }
  let before = start
  for (const at of [...instants, end]) {
    if (at < start) continue
    const to = Math.min(at, end)
    if (to - before > longest.to - longest.from) longest = { from: before, to }
    before = to
    if (at >= end) break
  }
  return longest
}

function within(
  objective: Extract<Objective, { within: unknown }>,
  all: readonly Sample[],
  { leaseMs }: History,
  measure: (samples: readonly Sample[]) => Sample | null,
): ObjectiveResult {
  const held = objective.disturbed ? all : all.filter(({ disturbed }) => !disturbed)
  const limit = objective.within.leases * leaseMs + objective.within.ms
  const worst = measure(held)
  return {
    name: objective.name,
    value: worst === null ? null : round(worst.ms),
    limit,
    ok: worst === null || worst.ms <= limit,
    samples: held.length,
    disturbed: all.length - held.length,
    unit: 'ms',
    worst,
  }
}

function atLeast(name: string, value: number, limit: number): ObjectiveResult {
  return { name, value, limit, ok: value >= limit, samples: value, disturbed: 0, unit: 'count', worst: null }
}

function worstOf(samples: readonly Sample[]): Sample | null {
  return samples.reduce<Sample | null>((worst, each) => (worst === null || each.ms > worst.ms ? each : worst), null)
}

/** The nearest rank: of fewer than a hundred, the longest. */
export function p99Of(samples: readonly Sample[]): Sample | null {
  const sorted = [...samples].sort((a, b) => a.ms - b.ms)
  return sorted[Math.ceil(0.99 * sorted.length) - 1] ?? null
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10
}

/** `failover 3.4 s of lease + 2s (5 s)`, for a line. */
export function objectiveLine({ name, value, limit, ok, samples, disturbed, unit, worst }: ObjectiveResult): string {
  const said = (number: number): string => (unit === 'count' ? String(number) : formatDuration(number))
  const bound = unit === 'count' ? `at least ${said(limit)}` : `at most ${said(limit)}`
  const measured = value === null ? 'nothing to measure' : said(value)
  const of = unit === 'count' || samples === 0 ? '' : `, of ${samples}`
  const others = disturbed === 0 ? '' : `, ${disturbed} more under other faults`
  const where = ok || worst === null ? '' : `: ${worst.what}, ${(worst.from / 1_000).toFixed(1)} s into the run`
  return `${name} ${measured} (${bound}${of}${others})${where}`
}
