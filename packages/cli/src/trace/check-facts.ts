// What the rules must know besides the records, taken from the trace itself: a simulated run begins with a record of it, a real
// cluster's settings stand in its coordinator's snapshots. And which clock all records can be put on.

import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { settingsAt } from './cluster-settings.ts'
import type { TraceSource } from './source.ts'

/** The first record of a simulated run, made by its recorder. */
export const FACTS_KIND = 'trace.facts'
/** Its last one. */
export const ENDED_KIND = 'trace.ended'
export const FACTS_PROCESS = 'simulator'
/** What the names of simulated clusters begin with; their seed follows. */
export const SIMULATED_CLUSTER = 'sim-'

/** Of a simulated run. */
export interface SimulatedFacts {
  readonly seed: string
  /** Rules that the run is judged by. */
  readonly rules: readonly string[]
  readonly driftFraction: number
  /** Of every volume: where its extents begin, and how long each is. */
  readonly extents: { readonly offset: number; readonly bytes: number }
  /** VMs whose consoles may lose lines on their way. */
  readonly mayMissLines?: readonly string[]
}

/** Of the last record of a simulated run. */
export interface EndedFacts {
  /** Those that have a trace. */
  readonly processes: readonly string[]
}

export type TraceFacts =
  | { readonly kind: 'simulated'; readonly facts: SimulatedFacts }
  | {
      readonly kind: 'real'
      /** Whether the lease is the cluster's own, or that of the default profile, since no snapshot tells. */
      readonly leaseKnown: boolean
      readonly leaseMs: number
      readonly driftFraction: number
      /** All processes ran on one machine since its start: their monotonic clocks are one. */
      readonly oneClock: boolean
      /** Of each process its runs, in order. */
      readonly runs: ReadonlyMap<string, readonly RunClock[]>
    }

/**
 * From when a process ran, and what its machine's monotonic clock lacked to the wall clock then. A hybrid logical clock follows
 * those of others, however far they are ahead, but for its first stamp; and stands still meanwhile.
 */
export interface RunClock {
  readonly sinceMs: number
  readonly offsetMs: number
}

type Stamp = Pick<TraceRecord, 'process' | 'at' | 'hlc'>

/** Processes of one machine tell the same difference of wall and monotonic clock, but for what the wall clock was set by. */
const SAME_MACHINE_MS = 250

export async function factsOf(source: TraceSource, options: TraceReadOptions): Promise<TraceFacts> {
  const { onDamaged } = options
  const tolerant = onDamaged === undefined ? {} : { onDamaged }
  for await (const record of source.records({ ...tolerant, filter: { kinds: [FACTS_KIND] } }, [FACTS_PROCESS])) {
    return { kind: 'simulated', facts: record.body as unknown as SimulatedFacts }
  }
  const known = await settingsAt(source, Number.NEGATIVE_INFINITY, tolerant)
  const { leaseMs, drift } = known ?? PROFILES.production
  const clocks = await clocksOf(source, tolerant)
  return { kind: 'real', leaseKnown: known !== null, leaseMs, driftFraction: drift, ...clocks }
}

/** On one timeline for all processes: in a simulated run every record has true time. */
export function timeOf(facts: TraceFacts, { process, at, hlc }: Stamp): number {
  if (facts.kind === 'simulated' || facts.oneClock) return at
  // Never later than its stamp: that is another run's, before its machine was started anew.
  const fits = ({ sinceMs, offsetMs }: RunClock): boolean =>
    sinceMs <= hlc.wallMs && at + offsetMs <= hlc.wallMs + SAME_MACHINE_MS
  const run = facts.runs.get(process)?.findLast(fits)
  return run === undefined ? hlc.wallMs : at + run.offsetMs
}

async function clocksOf(
  source: TraceSource,
  options: TraceReadOptions,
): Promise<{ oneClock: boolean; runs: ReadonlyMap<string, readonly RunClock[]> }> {
  const runs = new Map<string, RunClock[]>()
  let least = Number.POSITIVE_INFINITY
  let most = Number.NEGATIVE_INFINITY
  for (const stream of source.streamsOf()) {
    const known = runs.get(stream.process) ?? []
    runs.set(stream.process, known)
    for (const segment of stream.segments) {
      const first = await firstOf(source.batchesOf({ ...stream, segments: [segment] }, options))
      if (first === null) continue
      const offsetMs = first.hlc.wallMs - first.at
      least = Math.min(least, offsetMs)
      most = Math.max(most, offsetMs)
      // Each run counts its records from one; of one whose beginning is gone the next best is the first that is there.
      if (first.seq <= 1 || known.length === 0) known.push({ sinceMs: first.hlc.wallMs, offsetMs })
    }
  }
  for (const each of runs.values()) each.sort((a, b) => a.sinceMs - b.sinceMs)
  return { oneClock: most - least <= SAME_MACHINE_MS, runs }
}

async function firstOf(batches: AsyncIterable<readonly TraceRecord[]>): Promise<TraceRecord | null> {
  for await (const [first] of batches) return first ?? null
  return null
}
