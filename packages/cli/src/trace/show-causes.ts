// One record with all that led to it and all that it led to. A cause names a process and a number, and a process's numbers begin
// anew with each of its runs: the run that is meant is the newest that had got so far when the record was made.

import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { Cause, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { TraceSource } from './source.ts'

/** Records told of at most. */
const TOLD_MAX = 100_000
/** Runs of a process that are told apart. */
const RUNS_MAX = 10_000

/** `coordinator#123`. Throws `bad-cause`. */
export function parseCause(text: string): Cause {
  const match = /^(.+?)\s*#(\d{1,15})$/.exec(text)
  if (match !== null && Number(match[2]) > 0) return { process: match[1]!, seq: Number(match[2]) }
  throw new StellwerkError('bad-cause', `"${text}" names no record`, {
    where: '--cause',
    hint: 'say PROCESS#NUMBER, as in coordinator#123: the number that trace show has behind the process',
  })
}

/** Which run of its process a record is of, and which one a cause names. Fed in the merged order. */
export class Runs {
  readonly #last = new Map<string, number[]>()

  /** The record's id within the trace; null for those without a number, which nobody can name. */
  observe({ process, seq }: TraceRecord): string | null {
    if (seq === 0) return null
    const lasts = this.#last.get(process) ?? []
    const run = lasts.length - 1
    if (run < 0 || (seq <= lasts[run]! && lasts.length < RUNS_MAX)) lasts.push(seq)
    else lasts[run] = seq
    this.#last.set(process, lasts)
    return `${process}#${seq}/${lasts.length - 1}`
  }

  resolve({ process, seq }: Cause): string | null {
    const lasts = this.#last.get(process) ?? []
    for (let run = lasts.length - 1; run >= 0; run--) if (lasts[run]! >= seq) return `${process}#${seq}/${run}`
    return null
  }
}

export interface CausalStory {
  readonly records: readonly TraceRecord[]
  /** Which of them was asked for. */
  readonly root: TraceRecord
  /** Earlier runs of its process have a record of that number, too. */
  readonly others: number
  readonly isCut: boolean
}

/** Throws `unknown-record`. Reads the trace twice. */
export async function storyOf(source: TraceSource, cause: Cause, options: TraceReadOptions): Promise<CausalStory> {
  const { ancestors, rootId, others } = await ancestorsOf(source, cause, options)
  const runs = new Runs()
  const members = new Set<string>([rootId])
  const records: TraceRecord[] = []
  let root: TraceRecord | null = null
  for await (const record of source.records(options)) {
    const id = runs.observe(record)
    if (id === null) continue
    const by = record.cause === undefined ? null : runs.resolve(record.cause)
    const isMember = id === rootId || (by !== null && members.has(by))
    if (!isMember && !ancestors.has(id)) continue
    if (records.length >= TOLD_MAX) return { records, root: root ?? record, others, isCut: true }
    if (isMember) members.add(id)
    if (id === rootId) root = record
    records.push(record)
  }
  if (root === null) throw unknownRecord(source, cause)
  return { records, root, others, isCut: false }
}

/** By the graph of all records: of each, the one that it names as its cause. */
async function ancestorsOf(source: TraceSource, cause: Cause, options: TraceReadOptions) {
  const runs = new Runs()
  const graph = new Map<string, string>()
  let rootId: string | null = null
  let others = -1
  for await (const record of source.records(options)) {
    const id = runs.observe(record)
    if (id === null) continue
    if (record.process === cause.process && record.seq === cause.seq) {
      rootId = id
      others += 1
    }
    if (record.cause === undefined) continue
    const by = runs.resolve(record.cause)
    if (by !== null) graph.set(id, by)
  }
  if (rootId === null) throw unknownRecord(source, cause)
  const ancestors = new Set<string>()
  let at = graph.get(rootId)
  while (at !== undefined && !ancestors.has(at)) {
    ancestors.add(at)
    at = graph.get(at)
  }
  return { ancestors, rootId, others }
}

function unknownRecord(source: TraceSource, { process, seq }: Cause): StellwerkError {
  const known = source.names.includes(process)
  return new StellwerkError(
    'unknown-record',
    known ? `${process} has no record ${seq}` : `there is no process "${process}"`,
    {
      where: '--cause',
      hint: known ? 'it may have been rotated out: see stellwerk trace list' : `known: ${source.names.join(', ')}`,
    },
  )
}
