// For tests of `stellwerk trace`: records and segments as processes leave them.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { snapshotOf } from '@stellwerk/coordinator/snapshot.ts'
import { segmentName } from '@stellwerk/protocol/trace/file-writer.ts'
import { SegmentEncoder } from '@stellwerk/protocol/trace/segment-encoder.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'

export const START_MS = Date.UTC(2026, 0, 2, 3, 4, 5)

export function record(process: string, seq: number, more: Partial<TraceRecord> = {}): TraceRecord {
  return {
    hlc: { wallMs: START_MS + seq, counter: 0 },
    at: seq,
    process,
    seq,
    level: 'decision',
    kind: 'vm.run',
    ...more,
  }
}

/** What a coordinator says of a cluster with these storages, besides its numbered records: whoever may judge its trace is told. */
export function snapshotWith(storages: readonly string[] = []): TraceRecord {
  const { state } = new Bench()
  const known = new Map([...state.storages].filter(([name]) => storages.includes(name)))
  const value = snapshotOf({ ...state, storages: known })
  const body = { core: COORDINATOR_CORE, value }
  return record('coordinator', 0, { level: 'message', kind: 'core.snapshot', at: 1_000, body })
}

/** The bytes of segments, one for each run of the process. */
export function segmentsOf(records: readonly TraceRecord[], process: string, cluster: string | null = 'one'): Buffer[] {
  const parts: Buffer[][] = []
  const sink = {
    begin: () => void parts.push([]),
    append: (bytes: Uint8Array) => void parts.at(-1)?.push(Buffer.from(bytes)),
  }
  const encoder = new SegmentEncoder({ process, cluster }, sink)
  for (const one of records) encoder.write(one)
  encoder.flush()
  return parts.map(part => Buffer.concat(part))
}

/** Of one run. */
export function segmentOf(records: readonly TraceRecord[], process: string, cluster: string | null = 'one'): Buffer {
  return segmentsOf(records, process, cluster)[0] ?? Buffer.alloc(0)
}

/** As a process keeps them below `root`, numbered from `number` on; gives the first one's path. */
export function writeSegment(
  root: string,
  process: string,
  records: readonly TraceRecord[],
  options: { readonly number?: number; readonly cluster?: string | null } = {},
): string {
  const { number = 1, cluster } = options
  const directory = join(root, process, 'trace')
  mkdirSync(directory, { recursive: true })
  for (const [i, bytes] of segmentsOf(records, process, cluster).entries()) {
    writeFileSync(join(directory, segmentName(number + i)), bytes)
  }
  return join(directory, segmentName(number))
}
