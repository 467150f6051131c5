// Reads trace segments as a stream, in little memory: filters on the heads, decodes what is wanted, merges processes.
import type { File, Files, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { compareHlc } from '@stellwerk/runtime/hlc.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { segmentNumber } from './file-writer.ts'
import { type CompiledFilter, compileFilter, type TraceFilter } from './filter.ts'
import {
  decodeRecord,
  HEAD_BYTES,
  isIntact,
  MAX_RECORD_BYTES,
  MAX_SEGMENT_HEADER_BYTES,
  payloadLength,
  readSegmentStart,
  sequenceOf,
  TRACE_FORMAT,
  timesOf,
  wallOf,
} from './segment-format.ts'

const NO_SEGMENT = {
  newer: `a later version wrote it; this one reads up to format ${TRACE_FORMAT}`,
  damaged: 'the header of the segment is damaged',
  foreign: 'the file is no trace segment',
}

/** Read at a time; a record that is longer is read by itself. */
const CHUNK_BYTES = MIB

/** The end of a segment that was cut off, as `kill -9` does: what came before it is whole. */
export interface Truncation {
  readonly file: string
  readonly offset: number
  readonly bytes: number
}

export interface TraceReadOptions {
  readonly filter?: TraceFilter
  readonly onTruncated?: (truncation: Truncation) => void
  /** Given, a damaged record is passed over where its length is still known; without, it ends the reading. */
  readonly onDamaged?: (error: StellwerkError) => void
  /** Records of one run are missing, and no `trace.dropped` tells of them: a segment was cut or taken away. */
  readonly onGap?: (error: StellwerkError, before: Pick<TraceRecord, 'process' | 'at' | 'hlc'>) => void
  /** Of each intact record, wanted or not: told without decoding it. */
  readonly onSeen?: (wallMs: number) => void
}

/** Of the records of one process, whatever is filtered out: a run numbers them without a gap, from one. */
export interface Numbers {
  last: number | null
}

/** How far a segment has been read: what is appended later is read from there. */
export interface Position {
  readonly process: string
  readonly offset: number
}

/** The segments in a directory, oldest first. */
export async function traceSegments(files: Files, directory: string): Promise<string[]> {
  const names = (await files.list(directory)).filter(name => segmentNumber(name) !== null).sort()
  return names.map(name => `${directory}/${name}`)
}

/** The wanted records of a process's directory in the order they were written; throws `trace-damaged`. */
export async function* readTrace(
  files: Files,
  directory: string,
  options: TraceReadOptions = {},
): AsyncGenerator<TraceRecord> {
  for await (const batch of readTraceBatches(files, directory, options)) yield* batch
}

/** As `readTrace`, a chunk's worth at a time: for those who count records by the million. */
export async function* readTraceBatches(
  files: Files,
  directory: string,
  options: TraceReadOptions = {},
): AsyncGenerator<TraceRecord[]> {
  yield* readSegments(files, await traceSegments(files, directory), options)
}

/** These segments, in this order, as one process's records. One that is gone by then is passed over: it was rotated out. */
export async function* readSegments(
  files: Files,
  paths: readonly string[],
  options: TraceReadOptions = {},
): AsyncGenerator<TraceRecord[]> {
  const numbers: Numbers = { last: null }
  for (const path of paths) {
    try {
      yield* readSegment(files, path, options, numbers)
    } catch (error) {
      if (errorCode(error) !== 'missing-file') throw error
    }
  }
}

export async function* readSegment(
  files: Files,
  path: string,
  options: TraceReadOptions = {},
  numbers: Numbers = { last: null },
  from: Position | null = null,
): AsyncGenerator<TraceRecord[], Position | null> {
  const file = await files.open(path)
  try {
    const reader = new SegmentReader(file, path, await file.size(), options, numbers, from)
    yield* reader.batches()
    return reader.position
  } finally {
    await file.close()
  }
}

class SegmentReader {
  readonly #file: File
  readonly #path: string
  readonly #size: number
  readonly #options: TraceReadOptions
  readonly #filter: CompiledFilter
  readonly #numbers: Numbers
  #process = ''
  /** Of the next record in the file. */
  #offset = 0
  #done = false

  constructor(
    file: File,
    path: string,
    size: number,
    options: TraceReadOptions,
    numbers: Numbers,
    from: Position | null,
  ) {
    if (from !== null) {
      this.#process = from.process
      this.#offset = from.offset
    }
    this.#numbers = numbers
    this.#file = file
    this.#path = path
    this.#size = size
    this.#options = options
    this.#filter = compileFilter(options.filter ?? {})
  }

  /** Null: not even the header was there. */
  get position(): Position | null {
    return this.#offset === 0 ? null : { process: this.#process, offset: this.#offset }
  }

  async *batches(): AsyncGenerator<TraceRecord[]> {
    if (this.#offset === 0 && !(await this.#begin())) return
    let chunkBytes = CHUNK_BYTES
    while (!this.#done && this.#offset < this.#size) {
      const start = this.#offset
      const chunk = await this.#read(start, Math.min(chunkBytes, this.#size - start))
      const batch = this.#parse(chunk, start)
      if (batch.length > 0) yield batch
      chunkBytes = this.#offset === start ? MAX_RECORD_BYTES : CHUNK_BYTES
    }
  }

  async #begin(): Promise<boolean> {
    const bytes = await this.#read(0, Math.min(this.#size, MAX_SEGMENT_HEADER_BYTES))
    const start = readSegmentStart(bytes)
    if (start.kind !== 'segment') {
      if (start.kind === 'cut' && this.#size < MAX_SEGMENT_HEADER_BYTES) this.#truncated()
      else this.#damaged(NO_SEGMENT[start.kind === 'cut' ? 'damaged' : start.kind])
      return false
    }
    this.#process = start.process
    this.#offset = start.length
    return true
  }

  #parse(chunk: Buffer, start: number): TraceRecord[] {
    const batch: TraceRecord[] = []
    const whole = start + chunk.length >= this.#size
    let at = 0
    while (at < chunk.length) {
      const left = chunk.length - at
      const length = left < HEAD_BYTES ? -1 : payloadLength(chunk, at)
      this.#offset = start + at
      if (length === null) {
        this.#badLength(chunk, at, whole)
        return batch
      }
      if (length < 0 || left < HEAD_BYTES + length) {
        // The rest is in the next chunk, or was never written.
        if (whole) this.#truncated()
        return batch
      }
      const next = at + HEAD_BYTES + length
      if (!isIntact(chunk, at, length)) {
        if (whole && next === chunk.length) {
          this.#truncated()
          return batch
        }
        this.#damaged('the checksum is wrong')
      } else {
        this.#count(chunk, at)
        this.#options.onSeen?.(wallOf(chunk, at))
        if (this.#filter.head(chunk, at)) {
          const record = this.#decode(chunk, at, length)
          if (record !== null && this.#filter.record(record)) batch.push(record)
        }
      }
      at = next
      this.#offset = start + at
    }
    return batch
  }

  #count(chunk: Buffer, at: number): void {
    const seq = sequenceOf(chunk, at)
    const { last } = this.#numbers
    // Dropped records are told of by one without a number; a lower number begins another run.
    this.#numbers.last = seq === 0 ? null : seq
    if (last === null || seq === 0 || seq <= last + 1) return
    const where = `${this.#path} at byte ${this.#offset}`
    const hint = 'a segment before it was cut off or taken away'
    const message = `${seq - last - 1} trace records are missing before number ${seq}`
    const { wallMs, at: monotonicMs } = timesOf(chunk, at)
    const before = { process: this.#process, at: monotonicMs, hlc: { wallMs, counter: 0 } }
    this.#options.onGap?.(new StellwerkError('trace-gap', message, { where, hint }), before)
  }

  #decode(chunk: Buffer, at: number, length: number): TraceRecord | null {
    try {
      return decodeRecord(chunk, at, length, this.#process)
    } catch (error) {
      this.#damaged('it has the right checksum but does not decode', error)
      return null
    }
  }

  /** Zeroes to the end are what a file system leaves of writes that a power loss cut off. */
  #badLength(chunk: Buffer, at: number, whole: boolean): void {
    if (whole && chunk.subarray(at).every(byte => byte === 0)) this.#truncated()
    else {
      this.#damaged('the length is wrong, so the rest of the segment is lost')
      this.#done = true
    }
  }

  #truncated(): void {
    this.#done = true
    const bytes = this.#size - this.#offset
    this.#options.onTruncated?.({ file: this.#path, offset: this.#offset, bytes })
  }

  #damaged(what: string, cause?: unknown): void {
    const where = `${this.#path} at byte ${this.#offset}`
    const hint = 'records before it are good; copy the file away before it is rotated out'
    const error = new StellwerkError('trace-damaged', `a damaged trace record: ${what}`, { where, hint, cause })
    if (this.#options.onDamaged === undefined) throw error
    this.#options.onDamaged(error)
  }

  async #read(offset: number, length: number): Promise<Buffer> {
    const bytes = await this.#file.read(offset, length)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

// --- merging ---------------------------------------------------------------------------------------------------------------

interface Head {
  readonly batches: AsyncIterator<readonly TraceRecord[]>
  batch: readonly TraceRecord[]
  at: number
}

/** The order of a merged trace: HLC, then process, then sequence number. */
export function compareRecords(a: TraceRecord, b: TraceRecord): number {
  return compareHlc(a.hlc, b.hlc) || (a.process < b.process ? -1 : a.process > b.process ? 1 : a.seq - b.seq)
}

/** In which the records of a simulated run were made. */
export function compareOrder(a: TraceRecord, b: TraceRecord): number {
  return (a.order ?? -1) - (b.order ?? -1)
}

/** Several processes' traces as one, by hybrid logical clock unless told. Each must be in order by itself. */
export async function* mergeTraces(
  traces: readonly AsyncIterable<readonly TraceRecord[]>[],
  compare = compareRecords,
): AsyncGenerator<TraceRecord> {
  const heads: Head[] = []
  try {
    for (const trace of traces) {
      const head: Head = { batches: trace[Symbol.asyncIterator](), batch: [], at: 0 }
      heads.push(head)
      await fill(head)
    }
    while (true) {
      // A cluster has tens of processes: looking at each head is cheaper than keeping them in a heap.
      let first: Head | null = null
      for (const head of heads) {
        if (head.at >= head.batch.length) continue
        if (first === null || compare(head.batch[head.at]!, first.batch[first.at]!) < 0) first = head
      }
      if (first === null) return
      yield first.batch[first.at]!
      first.at += 1
      if (first.at >= first.batch.length) await fill(first)
    }
  } finally {
    for (const head of heads) await head.batches.return?.()
  }
}

async function fill(head: Head): Promise<void> {
  while (head.at >= head.batch.length) {
    const next = await head.batches.next()
    if (next.done === true) return
    head.batch = next.value
    head.at = 0
  }
}
