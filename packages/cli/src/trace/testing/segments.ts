// For tests of `stellwerk trace`: records and segments as processes leave them.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
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

export function segmentOf(records: readonly TraceRecord[], process: string, cluster: string | null = 'one'): Buffer {
  const parts: Buffer[] = []
  const sink = { begin: () => undefined, append: (bytes: Uint8Array) => void parts.push(Buffer.from(bytes)) }
  const encoder = new SegmentEncoder({ process, cluster }, sink)
  for (const one of records) encoder.write(one)
  encoder.flush()
  return Buffer.concat(parts)
}

/** As a process keeps it below `root`; gives the segment's path. */
export function writeSegment(
  root: string,
  process: string,
  records: readonly TraceRecord[],
  options: { readonly number?: number; readonly cluster?: string | null } = {},
): string {
  const path = join(root, process, 'trace', segmentName(options.number ?? 1))
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, segmentOf(records, process, options.cluster))
  return path
}
