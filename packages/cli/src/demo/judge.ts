// Judges a cluster that has ended: what its processes and the observer put on record, merged, against the rules of
// docs/SPEC.md.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { RuleId, Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import { mergeTraces, readTraceBatches } from '@stellwerk/protocol/trace/reader.ts'
import type { Files, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { OBSERVER } from '../observer/observer-name.ts'
import { traceDirectory } from '../programs/process.ts'

/**
 * All that such a trace can prove. A process that is killed takes the last records of its trace along, which were waiting
 * for the disk: a write on a disk may then be unrecorded, and IO1 would take what it left for damage (the guests' own
 * ledgers judge the disks instead). IO2 is about storages that lose power, which this can't do to them.
 */
export const JUDGED: readonly RuleId[] = [
  'VM1',
  'VM2',
  'MIG1',
  'MIG2',
  'MIG3',
  'CSV1',
  'CSV2',
  'CSV3',
  'IO3',
  'FEN1',
  'FEN2',
  'LIV1',
]

/** Freezing takes a moment, and steps are recorded ten times a second. */
export const SLACK_MS = 250

const SAID: ReadonlySet<string> = new Set(['guest.acknowledged', 'guest.recovered'])

const KINDS = [
  'vm.*',
  'guest.*',
  'machine.*',
  'migration.*',
  'failover.*',
  'lease.*',
  'storage.*',
  'extent.*',
  'process.*',
  'faults.*',
] as const

export interface Verdict {
  readonly violations: readonly Violation[]
  /** By how many records each rule was judged. */
  readonly judged: { readonly [rule: string]: number }
  readonly records: number
}

export async function judge(options: {
  /** Of the cluster's directory. */
  readonly files: Files
  readonly processes: readonly string[]
  readonly observed: readonly TraceRecord[]
  readonly leaseMs: number
}): Promise<Verdict> {
  const monitors = createMonitors({
    rules: JUDGED,
    vm2: { mayMissLines: true },
    fen2: { slackMs: SLACK_MS, leaseMs: options.leaseMs },
  })
  const filter = { kinds: KINDS }
  const traces = options.processes.map(name => readTraceBatches(options.files, traceDirectory('.', name), { filter }))
  let records = 0
  for await (const record of mergeTraces([...traces, once(options.observed)])) {
    // What guests acknowledged is what was heard outside, not what their hosts say of them.
    if (SAID.has(record.kind) && record.process !== OBSERVER) continue
    records += 1
    monitors.observe(record)
  }
  const violations = monitors.finish()
  return { violations, judged: Object.fromEntries(monitors.judged), records }
}

async function* once(records: readonly TraceRecord[]): AsyncGenerator<readonly TraceRecord[]> {
  if (records.length > 0) yield records
}
