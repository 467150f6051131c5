// `stellwerk trace replay`: what a coordinator's trace says its core was fed, fed to the core of this version. The replaying
// itself is the coordinator's (replay/replay.ts); here is where its records come from.

import {
  COORDINATOR_CORE,
  CoordinatorReplay,
  type CoreRecord,
  type ReplayCounts,
  type ReplayDifference,
} from '@stellwerk/coordinator/replay/replay.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { TraceSource } from './source.ts'

export const COORDINATOR = 'coordinator'

export interface ReplayReport {
  readonly counts: ReplayCounts
  /** The first; null: it decides all the same. */
  readonly difference: ReplayDifference | null
  /** Of the record where it differs. */
  readonly record: TraceRecord | null
}

/** Null is where records are missing. Throws `no-coordinator` when the trace has nothing of one. */
export async function* coreRecords(
  source: TraceSource,
  options: TraceReadOptions = {},
): AsyncGenerator<{ readonly core: CoreRecord; readonly record: TraceRecord } | null> {
  const streams = source.streamsOf([COORDINATOR])
  let some = false
  for await (const record of inSequence(source, streams, options)) {
    if (record === null) {
      yield null
      continue
    }
    const kind = kindOf(record)
    if (kind === null) continue
    some = true
    const { core, value } = record.body as { readonly core: string; readonly value: Json }
    if (core !== COORDINATOR_CORE) continue
    yield { core: { kind, value, at: `${record.process} #${record.seq}` }, record }
  }
  if (some) return
  throw new StellwerkError('no-coordinator', 'the trace has nothing that a coordinator was fed', {
    where: source.where,
    hint: 'name the trace of the coordinator, at level message or finer, with --from',
  })
}

function kindOf({ kind, body }: TraceRecord): CoreRecord['kind'] | null {
  // A snapshot too large for the trace is on record without its contents.
  if (typeof body !== 'object' || body === null || !('core' in body)) return null
  if (kind === 'core.input') return 'input'
  if (kind === 'core.output') return 'output'
  return kind === 'core.snapshot' ? 'snapshot' : null
}

/** All records, and null for each place where some are missing: a run numbers its records without a gap, from one. */
async function* inSequence(
  source: TraceSource,
  streams: ReturnType<TraceSource['streamsOf']>,
  options: TraceReadOptions,
): AsyncGenerator<TraceRecord | null> {
  for (const stream of streams) {
    let last = 0
    let lost = false
    const { onDamaged: tell } = options
    const onDamaged = (error: StellwerkError) => {
      lost = true
      tell?.(error)
    }
    const reading: TraceReadOptions = { ...options, ...(tell === undefined ? {} : { onDamaged }) }
    for await (const batch of source.batchesOf(stream, reading)) {
      for (const record of batch) {
        const { kind, seq } = record
        const isGap = kind === 'trace.dropped' || (seq > last + 1 && seq !== 0 && last !== 0)
        if (isGap || lost) yield null
        lost = false
        if (seq !== 0) last = seq
        yield record
      }
    }
  }
}

export async function replayTrace(source: TraceSource, options: TraceReadOptions = {}): Promise<ReplayReport> {
  const replay = new CoordinatorReplay()
  for await (const each of coreRecords(source, options)) {
    if (each === null) {
      replay.lose()
      continue
    }
    const difference = replay.take(each.core)
    if (difference !== null) return { counts: replay.counts, difference, record: each.record }
  }
  replay.finish()
  return { counts: replay.counts, difference: null, record: null }
}
