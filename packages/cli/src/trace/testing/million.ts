// A long trace, as a busy cluster leaves it: so many records of several processes, most of them messages and I/O, now and then a
// decision about one of the VMs.

import { join } from 'node:path'
import { segmentName } from '@stellwerk/protocol/trace/file-writer.ts'
import { SegmentEncoder } from '@stellwerk/protocol/trace/segment-encoder.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { createAppendFile } from '@stellwerk/runtime/node/append-file.ts'
import { START_MS } from './segments.ts'

const PROCESSES = ['coordinator', 'host-a/agent', 'host-b/agent', 'host-c/agent', 'san-a', 'san-b']
const MIXED = 100

export function writeLongTrace(root: string, count: number): void {
  const open = PROCESSES.map(process => {
    let file: ReturnType<typeof createAppendFile> | null = null
    const sink = {
      begin: (number: number) => {
        file?.close()
        file = createAppendFile(join(root, process, 'trace', segmentName(number)))
      },
      append: (bytes: Uint8Array) => file?.append(bytes),
    }
    const encoder = new SegmentEncoder({ process, cluster: 'long' }, sink)
    return { process, encoder, seq: 0, close: () => file?.close() }
  })
  for (let i = 0; i < count; i++) {
    const writer = open[i % open.length]!
    writer.seq += 1
    const stamps = { hlc: { wallMs: START_MS + i, counter: 0 }, at: i, process: writer.process, seq: writer.seq }
    writer.encoder.write({ ...stamps, ...eventOf(Math.floor(i / open.length), writer.process) })
  }
  for (const { encoder, close } of open) {
    encoder.flush()
    close()
  }
}

type Event = Omit<TraceRecord, 'hlc' | 'at' | 'process' | 'seq'>

function eventOf(i: number, process: string): Event {
  const host = process.split('/')[0]!
  const vm = `vm-${i % 17}`
  if (i % MIXED === 0) {
    return { level: 'decision', kind: 'vm.run', vm, host, body: { epoch: i, instance: `i${i}`, how: 'start' } }
  }
  if (i % 3 === 0) {
    const body = { kind: 'storage.probe', from: process, to: 'san-a/control', seq: i, bytes: 203 }
    return { level: 'message', kind: 'message.received', host, cause: { process: 'san-a', seq: i }, body }
  }
  if (i % 3 === 1) {
    const body = { kind: 'cluster.beat', from: process, to: 'coordinator/decider', seq: i }
    return { level: 'message', kind: 'message.sent', host, body }
  }
  const body = { op: 'write', request: `r${i}`, offset: i * 512, length: 4096, sectors: [i, i + 1, i + 2, i + 3] }
  return { level: 'io', kind: 'disk.invoke', vm, disk: `disk-${i % 17}`, host, body }
}
