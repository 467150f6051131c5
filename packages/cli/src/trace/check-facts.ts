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

/** Of a simulated run. */
export interface SimulatedFacts {
  readonly seed: string
  /** Rules that the run is judged by. */
  readonly rules: readonly string[]
  readonly driftFraction: number
  /** Of every volume: where its extents begin, and how long each is. */
  readonly extents: { readonly offset: number; readonly bytes: number }
}

export type TraceFacts =
  | { readonly kind: 'simulated'; readonly facts: SimulatedFacts }
  | {
      readonly kind: 'real'
      readonly leaseMs: number
      readonly driftFraction: number
      /** All processes ran on one machine since its start: their monotonic clocks are one. */
      readonly oneClock: boolean
    }

/** Processes of one machine tell the same difference of wall and monotonic clock, but for what the wall clock was set by. */
const SAME_MACHINE_MS = 250

export async function factsOf(source: TraceSource, options: TraceReadOptions): Promise<TraceFacts> {
  const { onDamaged } = options
  const tolerant = onDamaged === undefined ? {} : { onDamaged }
  for await (const record of source.records({ ...tolerant, filter: { kinds: [FACTS_KIND] } }, [FACTS_PROCESS])) {
    return { kind: 'simulated', facts: record.body as unknown as SimulatedFacts }
  }
  const { leaseMs, drift } = (await settingsAt(source, Number.NEGATIVE_INFINITY, tolerant)) ?? PROFILES.production
  return { kind: 'real', leaseMs, driftFraction: drift, oneClock: await areOnOneClock(source, tolerant) }
}

async function areOnOneClock(source: TraceSource, options: TraceReadOptions): Promise<boolean> {
  let least = Number.POSITIVE_INFINITY
  let most = Number.NEGATIVE_INFINITY
  for (const stream of source.streamsOf()) {
    for (const segment of stream.segments) {
      const first = await firstOf(source.batchesOf({ ...stream, segments: [segment] }, options))
      if (first === null) continue
      least = Math.min(least, first.hlc.wallMs - first.at)
      most = Math.max(most, first.hlc.wallMs - first.at)
    }
  }
  return most - least <= SAME_MACHINE_MS
}

async function firstOf(batches: AsyncIterable<readonly TraceRecord[]>): Promise<TraceRecord | null> {
  for await (const [first] of batches) return first ?? null
  return null
}
