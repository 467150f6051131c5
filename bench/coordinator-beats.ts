// What recording costs the coordinator of a large cluster, each beat of which is on record whole: a second of its beats and
// ticks through the core, with nothing recorded and with all of it recorded as the decider does; and the snapshot of its state
// that opens a segment of the trace. Processor time, so that what else the machine does matters little.

import { type Input, step } from '@stellwerk/coordinator/core/core.ts'
import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import { outlineOf } from '@stellwerk/coordinator/replay/outline.ts'
import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { snapshotOf } from '@stellwerk/coordinator/snapshot.ts'
import { encodePayload, HEAD_BYTES, MAX_RECORD_BYTES, writeRecord } from '@stellwerk/protocol/trace/segment-format.ts'
import type { Json, TraceRecord, TraceSink } from '@stellwerk/runtime/environment.ts'
import { createTraceSink } from '@stellwerk/runtime/trace-sink.ts'

const VMS_A_HOST = 5
const VOLUMES = 20
const PATHS = [
  'fabric-0/san-a',
  'fabric-1/san-a',
  'fabric-0/san-b',
  'fabric-1/san-b',
  'redirected/san-a',
  'redirected/san-b',
]
const TICKS = 10

export interface BeatCost {
  /** Of a second of beats, in ms of the processor. */
  readonly off: number
  readonly on: number
  readonly bytes: number
  readonly snapshotMs: number
  readonly snapshotBytes: number
}

export function costOfBeats(hosts: number, seconds: number): BeatCost {
  const bench = clusterOf(hosts)
  const beats = bench.recorded
    .slice(-(hosts + 1))
    .flatMap(({ kind, value }) => (kind === 'input' ? [(value as unknown as { input: Input }).input] : []))
    .filter(({ kind }) => kind === 'beat')
  // What the bench keeps of its own grows with each input: from here on the core is fed directly.
  const feed = (now: number, trace: TraceSink) => {
    for (const input of beats) fed(bench, input, now, trace)
    for (let i = 0; i < TICKS; i += 1) fed(bench, { kind: 'tick' }, now + (i * 1_000) / TICKS, trace)
  }
  const written = new Counter()
  const clock = { now: () => 0, wall: () => 0 }
  const sinks = [createTraceSink('coordinator', clock, null), createTraceSink('coordinator', clock, written)] as const
  const took = [0, 0]
  let now = bench.now + 1_000
  // The first second is not measured: it warms up.
  for (let second = 0; second <= seconds; second += 1) {
    if (second === 1) written.bytes = 0
    // In turn first: what the one leaves behind, the other has to clear away.
    for (const i of second % 2 === 0 ? [0, 1] : [1, 0]) {
      const since = process.cpuUsage()
      feed(now, sinks[i]!)
      now += 1_000
      if (second > 0) took[i]! += milliseconds(process.cpuUsage(since))
    }
  }
  const bytes = written.bytes / seconds
  const since = process.cpuUsage()
  written.bytes = 0
  sinks[1].snapshot(COORDINATOR_CORE, snapshotOf(bench.state))
  const snapshotMs = milliseconds(process.cpuUsage(since))
  return { off: took[0]! / seconds, on: took[1]! / seconds, bytes, snapshotMs, snapshotBytes: written.bytes }
}

const milliseconds = ({ user, system }: NodeJS.CpuUsage): number => (user + system) / 1_000

/** As the decider has it. */
function fed(bench: Bench, input: Input, now: number, trace: TraceSink): void {
  trace.input(COORDINATOR_CORE, { now, wallMs: now, input } as unknown as Json)
  const output = step(bench.state, input, now, now)
  trace.output(COORDINATOR_CORE, () => outlineOf(output))
  for (const effect of output.effects) if (effect.kind === 'trace') trace.emit(effect.event)
}

/** Encodes as the writer of a process does, and keeps nothing. */
class Counter {
  readonly level = 'message'
  readonly #buffer = Buffer.allocUnsafeSlow(MAX_RECORD_BYTES + HEAD_BYTES)
  bytes = 0

  write(record: TraceRecord): void {
    const payload = encodePayload(record, 'coordinator')
    writeRecord(this.#buffer, 0, record, payload)
    this.bytes += HEAD_BYTES + payload.byteLength
  }
}

function clusterOf(hosts: number): Bench {
  const bench = new Bench()
  const names = Array.from({ length: hosts }, (_, i) => `host-${i}`)
  for (const name of names) {
    const host = bench.join(name)
    host.peers = names.filter(peer => peer !== name).map((peer, i) => ({ host: peer, heardAgoMs: i + 0.123456789 }))
    host.paths = PATHS.map(path => ({
      ...{ storage: path.slice(-'san-a'.length), path, state: 'up' as const, why: 'probes are answered' },
      ...{ sinceMs: 153_885.727_966_7, latencyMs: 0.934_973_001, queue: 0, requests: 60, errors: 0, via: null },
    }))
  }
  bench.round(2)
  for (let i = 0; i < VOLUMES; i += 1) {
    const storages = ['san-a', 'san-b']
    bench.command({ kind: 'volume-create', name: `csv${i + 1}`, id: `v${i}`, sizeBytes: 2 ** 40, storages })
  }
  bench.round(2)
  for (let i = 0; i < hosts * VMS_A_HOST; i += 1) bench.createVm(`vm-${i}`)
  bench.round(3)
  return bench
}
