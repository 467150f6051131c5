// Where a trace lacks records that `stellwerk trace check` would need, and whose: what is found near such a place, or without a
// process's trace at all, may be for want of them, and counts for nothing.

import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import {
  ENDED_KIND,
  type EndedFacts,
  FACTS_PROCESS,
  SIMULATED_CLUSTER,
  type TraceFacts,
  timeOf,
} from './check-facts.ts'
import { nodesIn } from './cluster-settings.ts'
import { processesOf, type TraceSource } from './source.ts'

/**
 * What a rule finds within this time after records are missing may be for want of them: longer than anything that a rule
 * waits for (a fence with its lease, a switch-over).
 */
export const DOUBT_MS = 60_000

/** Where records are missing, and for how long that makes what is found doubtful. */
export class Losses {
  readonly told: string[] = []
  readonly #times: number[] = []
  isEverywhere = false

  get isNone(): boolean {
    return this.told.length === 0
  }

  add(now: number, what: string): void {
    this.told.push(what)
    this.#times.push(now)
  }

  /** From the first record to the last. */
  addAll(what: string): void {
    this.told.push(what)
    this.isEverywhere = true
  }

  casts(at: number): boolean {
    if (this.isEverywhere) return true
    return this.#times.some(time => at >= time - DOUBT_MS && at <= time + DOUBT_MS)
  }
}

/** A process whose trace is not there at all, or begins in the middle, as older segments were rotated out. */
export async function beginnings(source: TraceSource, facts: TraceFacts, options: TraceReadOptions): Promise<Losses> {
  const losses = new Losses()
  const nodes = await nodesOf(source, facts, options)
  // Without the coordinator's word nobody knows whose trace is missing: all may be, and what is found proves nothing.
  for (const process of nodes ?? ['coordinator']) {
    if (!source.names.includes(process)) losses.addAll(`the trace of ${process} is not here`)
  }
  if (nodes === null && !losses.isEverywhere) {
    losses.addAll('who took part is not known: no snapshot of the coordinator that this version reads is here')
  }
  for (const stream of source.streamsOf()) {
    for await (const [first] of source.batchesOf(stream, options)) {
      if (first === undefined) continue
      if (first.seq > 1) {
        const now = timeOf(facts, first)
        losses.add(now, `the trace of ${stream.process} begins with its record ${first.seq}: earlier ones are gone`)
      }
      break
    }
  }
  return losses
}

/** Processes that took part and have something to tell; null: nobody says. */
async function nodesOf(
  source: TraceSource,
  facts: TraceFacts,
  { onDamaged }: TraceReadOptions,
): Promise<readonly string[] | null> {
  const tolerant = onDamaged === undefined ? {} : { onDamaged }
  if (facts.kind === 'simulated') {
    const filter = { kinds: [ENDED_KIND] }
    for await (const { body } of source.records({ ...tolerant, filter }, [FACTS_PROCESS])) {
      const { processes } = (body ?? {}) as Partial<EndedFacts>
      if (processes !== undefined) return processes
    }
  } else if (source.cluster?.startsWith(SIMULATED_CLUSTER)) {
    return [FACTS_PROCESS]
  }
  const nodes = await nodesIn(source, tolerant)
  if (nodes !== null || source.file === null) return nodes
  // A guardian has nothing to tell until it attests an agent's death.
  return processesOf(source.file).filter(process => !process.endsWith('/guardian'))
}
