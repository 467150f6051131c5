// What a run with real processes, here or in containers, puts on record itself, and what of theirs is not believed.

import { segmentName } from '@stellwerk/protocol/trace/file-writer.ts'
import { mergeTraces, readTraceBatches, traceSegments } from '@stellwerk/protocol/trace/reader.ts'
import type { Files, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { ApiClient } from '../api-client/client.ts'
import type { Observer } from '../observer/observer.ts'
import { OBSERVER } from '../observer/observer-name.ts'
import { traceDirectory } from '../programs/process.ts'
import type { Fault } from './fault.ts'
import type { ChaosCluster } from './target.ts'

/** Of the directories of runs; what a killed run has left is found by it. */
export const SCRATCH_PREFIX = 'stellwerk-chaos-'

/** A coordinator that stands still answers nothing; the run's schedule goes on. */
const MIGRATE_MS = 1_000

/** What guests say is believed as the observer heard it, not as their hosts tell it. */
const SAID: ReadonlySet<string> = new Set(['guest.acknowledged', 'guest.recovered'])

/** Of a record: whom the fault hits, where one asks for a host, and all of it. */
export function about(fault: Fault): Pick<TraceRecord, 'host' | 'body'> {
  const { id, kind, ...what } = fault
  const body = { id, fault: kind, ...what }
  return fault.host === undefined ? { body } : { host: fault.host, body }
}

/** The last: only a coordinator that is there knows where data lies that could rot. */
const IDLE: ReadonlySet<string> = new Set(['not-running', 'no-mirror', 'coordinator-away'])

/** What it was to hit is down, or stands still, by another fault: then this one adds nothing, as with machines. */
export function isIdle(error: unknown): boolean {
  if (!(error instanceof StellwerkError)) return false
  if (IDLE.has(error.code)) return true
  return error.code === 'docker-failed' && /is not running|already paused|no agent runs there/.test(error.message)
}

/** Throws `fault-unsupported`: real processes have no bugs but their own. */
export function refuseCanary(canary: string | undefined): void {
  if (canary === undefined) return
  throw new StellwerkError('fault-unsupported', 'a bug is only planted in the simulator', { hint: 'run it on sim' })
}

/** On record before it happens; and, where it adds nothing, that it did not. */
export async function beginFault(
  fault: Fault,
  observer: Observer,
  breaker: { inject(fault: Fault): Promise<unknown> },
  say: (line: string) => void = () => undefined,
): Promise<void> {
  observer.note({ level: 'decision', kind: 'fault.begun', ...about(fault) })
  try {
    await breaker.inject(fault)
  } catch (error) {
    if (!isIdle(error)) throw error
    observer.note({ level: 'decision', kind: 'fault.idle', body: { id: fault.id } })
    say(`${fault.kind} did nothing: ${describeError(error)}`)
  }
}

export function endFault(fault: Fault, observer: Observer): void {
  observer.note({ level: 'decision', kind: 'fault.ended', ...about(fault) })
}

/** Null: it was asked for; else why not. */
export async function askToMigrate(api: ApiClient, vm: string): Promise<string | null> {
  try {
    await api.post(`/v1/vms/${vm}/migrate`, {}, MIGRATE_MS)
    return null
  } catch (error) {
    return describeError(error)
  }
}

/**
 * The traces below `root`, and what the observer heard, on the one monotonic clock that all processes of a machine read. Throws
 * `trace-not-whole`: by half a trace rules would be found broken that were kept.
 */
export async function* recordsOf(
  files: Files,
  root: string,
  { hosts, storages }: ChaosCluster,
  observer: Observer,
  startedAt: number,
): AsyncGenerator<{ readonly record: TraceRecord; readonly now: number }> {
  const directories = processesOf({ hosts, storages }).map(name => traceDirectory(root, name))
  for (const directory of directories) await demandBeginning(files, directory)
  const traces = directories.map(directory => readTraceBatches(files, directory))
  for await (const record of mergeTraces([...traces, once(observer.records())])) {
    if (record.kind === 'trace.dropped') throw notWhole(`${record.process} dropped records`, root)
    if (SAID.has(record.kind) && record.process !== OBSERVER) continue
    yield { record, now: record.at - startedAt }
  }
}

async function demandBeginning(files: Files, directory: string): Promise<void> {
  const [first] = await traceSegments(files, directory)
  if (first === undefined || first.endsWith(segmentName(1))) return
  throw notWhole('its oldest records made room for later ones', files.locate(directory))
}

function notWhole(why: string, where: string): StellwerkError {
  const hint = 'let the plan run for a shorter time'
  return new StellwerkError('trace-not-whole', `the run can't be judged by its trace: ${why}`, { where, hint })
}

export function processesOf({ hosts, storages }: ChaosCluster): string[] {
  return ['coordinator', ...storages, ...hosts.flatMap(host => [`${host}/guardian`, `${host}/agent`])]
}

async function* once(records: readonly TraceRecord[]): AsyncGenerator<readonly TraceRecord[]> {
  if (records.length > 0) yield records
}
