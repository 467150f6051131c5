// What the demo's acts stand on: the cluster, the observer, and waiting with an end.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import type { TraceFilter } from '@stellwerk/protocol/trace/filter.ts'
import { mergeTraces, readTraceBatches } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { LocalCluster } from '../cluster/local-cluster.ts'
import type { Observer } from '../observer/observer.ts'
import { traceDirectory } from '../programs/process.ts'
import type { Cast } from './cast.ts'

const POLL_MS = 5
/** Between two looks at the coordinator: it has other things to do. */
export const STATUS_POLL_MS = 40
/** Records wait this long for the disk, and a little. */
const TRACE_SETTLES_MS = 150

export interface Stage {
  readonly cluster: LocalCluster
  readonly directory: string
  readonly observer: Observer
  /** The guests, the first being the one that is moved and killed. */
  readonly vms: readonly string[]
  readonly cast: Cast
  say(line: string): void
}

/** Everything that keeps a trace. */
export function processesOf(cluster: LocalCluster): string[] {
  const { storages, hosts } = cluster.file
  return [
    'coordinator',
    ...storages.map(({ name }) => name),
    ...hosts.flatMap(({ name }) => [`${name}/guardian`, `${name}/agent`]),
  ]
}

/** Rejects with `demo-stuck`, naming what it waited for. */
export async function until(stage: Stage, what: string, timeoutMs: number, holds: () => boolean): Promise<void> {
  const { clock } = stage.cluster.env
  const end = clock.now() + timeoutMs
  while (!holds()) {
    if (clock.now() > end) throw stuck(what, timeoutMs)
    await stage.cluster.sleep(POLL_MS)
  }
}

export async function untilStatus(
  stage: Stage,
  what: string,
  timeoutMs: number,
  holds: (status: Status) => boolean,
): Promise<Status> {
  const { clock } = stage.cluster.env
  const end = clock.now() + timeoutMs
  for (;;) {
    const status = await stage.cluster.api.status()
    if (holds(status)) return status
    if (clock.now() > end) throw stuck(what, timeoutMs)
    await stage.cluster.sleep(STATUS_POLL_MS)
  }
}

function stuck(what: string, timeoutMs: number): StellwerkError {
  return new StellwerkError('demo-stuck', `waited ${timeoutMs / 1_000} s in vain: ${what}`, {
    hint: 'see the logs and traces in the directory that is kept',
  })
}

/** What the cluster's processes have on record since `since`, merged. */
export async function recordsSince(stage: Stage, since: number, filter: TraceFilter): Promise<TraceRecord[]> {
  const { cluster } = stage
  await cluster.sleep(TRACE_SETTLES_MS)
  const traces = processesOf(cluster).map(name =>
    readTraceBatches(cluster.env.files, traceDirectory('.', name), { filter }),
  )
  const records: TraceRecord[] = []
  for await (const record of mergeTraces(traces)) if (record.at >= since) records.push(record)
  return records
}
