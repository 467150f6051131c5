// What an observer has heard, as an ordinary trace of a process of its own: beside those of a cluster that it watched, the rules
// about what guests acknowledged can be judged again (`stellwerk trace check`).

import { join } from 'node:path'
import { segmentName } from '@stellwerk/protocol/trace/file-writer.ts'
import { SegmentEncoder } from '@stellwerk/protocol/trace/segment-encoder.ts'
import { type AppendFile, createAppendFile } from '@stellwerk/runtime/node/append-file.ts'
import { traceDirectory } from '../programs/process.ts'
import type { Observer } from './observer.ts'
import { OBSERVER } from './observer-name.ts'

/** Once. `root`: of the traces of the cluster of that name. Throws the system's error. */
export function writeObserved(root: string, cluster: string, observer: Pick<Observer, 'records'>): void {
  const directory = traceDirectory(root, OBSERVER)
  let file: AppendFile | null = null
  const sink = {
    begin: (number: number) => {
      file?.close()
      file = createAppendFile(join(directory, segmentName(number)))
    },
    append: (bytes: Uint8Array) => file?.append(bytes),
  }
  const encoder = new SegmentEncoder({ process: OBSERVER, cluster }, sink)
  // Numbered in the order in which they are told: lines come over several ways.
  for (const [i, record] of observer.records().entries()) encoder.write({ ...record, seq: i + 1 })
  encoder.flush()
  ;(file as AppendFile | null)?.close()
}
