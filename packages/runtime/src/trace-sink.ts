// The trace sink of every environment: stamps events, counts them and hands them to a writer. The writer's file format is
// the protocol package's; where the clocks come from is the environment's.

import type { Cause, Clock, Hlc, Json, TraceEvent, TraceLevel, TraceRecord, TraceSink } from './environment.ts'
import { HybridClock } from './hlc.ts'

/** Where records go. What is finer than `level` is not asked for and not written. */
export interface TraceWriter {
  write(record: TraceRecord): void
  readonly level: TraceLevel
}

const FINENESS: Readonly<Record<TraceLevel, number>> = { decision: 0, message: 1, io: 2 }

export function createTraceSink(process: string, clock: Clock, writer: TraceWriter | null): TraceSink {
  const hlc = new HybridClock()
  const fineness = writer === null ? -1 : FINENESS[writer.level]
  let seq = 0
  let current: Cause | undefined

  const on = (level: TraceLevel) => FINENESS[level] <= fineness
  const emit = (event: TraceEvent): Cause => {
    // An event that is not recorded can be nobody's cause: what it was caused by stands in, so the graph stays whole.
    const cause = event.cause ?? current
    if (writer === null || !on(event.level)) return cause ?? { process, seq }
    seq++
    const stamps = { hlc: hlc.stamp(clock.wall()), at: clock.now(), process, seq }
    writer.write(cause === undefined ? { ...stamps, ...event } : { ...stamps, ...event, cause })
    return { process, seq }
  }
  const core = (kind: string, name: string, value: Json) => {
    if (on('message')) emit({ level: 'message', kind, body: { core: name, value } })
  }

  return {
    on,
    emit,
    observe: (stamp: Hlc) => void hlc.observe(stamp, clock.wall()),
    stamp: () => hlc.stamp(clock.wall()),
    within: (cause, f) => {
      const outer = current
      current = cause
      try {
        return f()
      } finally {
        current = outer
      }
    },
    input: (name, value) => core('core.input', name, value),
    output: (name, value) => {
      const said = on('message') ? value() : null
      if (said !== null) core('core.output', name, said)
    },
    snapshot: (name, state) => core('core.snapshot', name, state),
  }
}
