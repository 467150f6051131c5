// Writes a simulated run down as the processes of a real cluster do: ordinary segments, one directory a process, at level `io`
// and with what the cores were fed; and, as the first and the last record, what the rules must know besides (trace/check-facts.ts).
// The same seed gives the same bytes; recording changes nothing of the run.

import { join } from 'node:path'
import { segmentName } from '@stellwerk/protocol/trace/file-writer.ts'
import { SegmentEncoder } from '@stellwerk/protocol/trace/segment-encoder.ts'
import type { Hlc, Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type AppendFile, createAppendFile, demandEmptyDirectory } from '@stellwerk/runtime/node/append-file.ts'
import type { CoreInput } from '@stellwerk/runtime/sim/trace.ts'
import { traceDirectory } from '../programs/process.ts'
import {
  ENDED_KIND,
  type EndedFacts,
  FACTS_KIND,
  FACTS_PROCESS,
  SIMULATED_CLUSTER,
  type SimulatedFacts,
} from '../trace/check-facts.ts'

interface Recording {
  readonly encoder: SegmentEncoder
  file: AppendFile | null
  /** Of its last record. */
  hlc: Hlc
}

export class SimRecorder {
  readonly #directory: string
  readonly #seed: string
  readonly #recordings = new Map<string, Recording>()
  #failure: unknown = null
  #order = 0

  /** Throws `not-empty`. */
  constructor(directory: string, seed: string) {
    demandEmptyDirectory(directory, 'name an empty or a new directory with --trace')
    this.#directory = directory
    this.#seed = seed
  }

  /** Before anything happens, at that time of the simulated calendar. */
  begin(facts: Omit<SimulatedFacts, 'seed'>, wallMs: number): void {
    this.#guarded(() => {
      this.#of(FACTS_PROCESS).hlc = { wallMs, counter: 0 }
    })
    this.#own(FACTS_KIND, 0, { seed: this.#seed, ...facts } as unknown as Json)
  }

  /** The run is over, `nowMs` after it began. */
  end(nowMs: number): void {
    const ended: EndedFacts = { processes: [...this.#recordings.keys()].sort() }
    this.#own(ENDED_KIND, nowMs, { ...ended })
  }

  record(record: TraceRecord): void {
    this.#guarded(() => {
      const recording = this.#of(record.process)
      recording.hlc = record.hlc
      recording.encoder.write({ ...record, order: ++this.#order })
    })
  }

  #own(kind: string, at: number, body: Json): void {
    this.#guarded(() => {
      const { encoder, hlc } = this.#of(FACTS_PROCESS)
      encoder.write({ hlc, at, process: FACTS_PROCESS, seq: 0, level: 'decision', kind, body, order: ++this.#order })
    })
  }

  /**
   * What the simulator tells apart from its records stands among them as in life, without a number: theirs are taken.
   * `wallMs`: the process's own clock.
   */
  core({ process, at, kind, cause, core, value }: CoreInput, wallMs: number): void {
    this.#guarded(() => {
      const recording = this.#of(process)
      const wall = Math.floor(wallMs)
      if (recording.hlc.wallMs < wall) recording.hlc = { wallMs: wall, counter: 0 }
      const { hlc } = recording
      recording.encoder.write({
        ...{ hlc, at, process, seq: 0, level: 'message', kind: `core.${kind}` },
        ...(cause === undefined ? {} : { cause }),
        body: { core, value },
        order: ++this.#order,
      })
    })
  }

  /** Throws `trace-not-written`: of what could not be, nothing was said while the run went on. */
  close(): void {
    this.#guarded(() => {
      for (const { encoder } of this.#recordings.values()) encoder.flush()
    })
    for (const { file } of this.#recordings.values()) file?.close()
    if (this.#failure === null) return
    throw new StellwerkError('trace-not-written', `the trace is not whole: ${errorMessage(this.#failure)}`, {
      where: this.#directory,
      hint: 'make room there, or name another directory with --trace',
      cause: this.#failure,
    })
  }

  /** The run is not to fail for what its recording meets. */
  #guarded(work: () => void): void {
    if (this.#failure !== null) return
    try {
      work()
    } catch (error) {
      this.#failure = error
    }
  }

  #of(process: string): Recording {
    const known = this.#recordings.get(process)
    if (known !== undefined) return known
    const directory = traceDirectory(this.#directory, process)
    const sink = {
      begin: (number: number) => {
        recording.file?.close()
        recording.file = null
        recording.file = createAppendFile(join(directory, segmentName(number)))
      },
      append: (bytes: Uint8Array) => recording.file?.append(bytes),
    }
    const encoder = new SegmentEncoder({ process, cluster: `${SIMULATED_CLUSTER}${this.#seed}` }, sink)
    const recording: Recording = { encoder, file: null, hlc: { wallMs: 0, counter: 0 } }
    this.#recordings.set(process, recording)
    return recording
  }
}
