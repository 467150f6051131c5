// Writes a process's trace records to segments on its disk, in the background and in bounded memory. It never makes the
// process wait: when the disk is too slow or fails, records are dropped, counted, and the gap is written down.
import type { File, Files, Logger, Timer, Timers, TraceLevel, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'
import type { TraceWriter } from '@stellwerk/runtime/trace-sink.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { encodePayload, encodeSegmentHeader, HEAD_BYTES, writeRecord } from './segment-format.ts'

/** The parts of an environment the writer stands on. */
export interface TraceFileGround {
  readonly files: Files
  readonly timers: Timers
  readonly log: Logger
}

export interface TraceFileOptions {
  readonly process: string
  /** Said in each segment, so that what is of two clusters is not taken for one trace. */
  readonly cluster?: string
  /** Default `message`. */
  readonly level?: TraceLevel
  /** Default `trace`. */
  readonly directory?: string
  /** Default 16 MiB. */
  readonly segmentBytes?: number
  /**
   * Default 16 segments' worth: the oldest are removed when all together would be more. By their bytes, not by their number: each
   * start begins a segment, and a process that fails again and again is not to lose the trace of why.
   */
  readonly keepBytes?: number
  /** What may wait for the disk; default 8 MiB. */
  readonly bufferBytes?: number
  /** How long a record that is no decision may wait; default 50. */
  readonly flushMs?: number
  /** A segment has begun: write the cores' snapshots now, so that it can be replayed by itself. */
  readonly onSegment?: () => void
}

const CHUNK_BYTES = 256 * KIB
/** Segments kept, however small. */
const SEGMENTS_MAX = 1_000
/** After a disk error nothing is tried for this long. */
export const RETRY_MS = 10_000

interface Chunk {
  /** The first of a new segment. */
  readonly opens: boolean
  readonly buffer: Buffer
  used: number
  written: number
  /** Records that are lost if this chunk can't be written. */
  records: number
}

export const segmentName = (number: number): string => `${String(number).padStart(8, '0')}.trace`
export const segmentNumber = (name: string): number | null =>
  /^\d{8}\.trace$/.test(name) ? Number(name.slice(0, 8)) : null

export class TraceFileWriter implements TraceWriter {
  readonly level: TraceLevel
  /** Records lost since the start, and those among them that no `trace.dropped` record tells of yet. */
  dropped = 0
  #untold = 0
  readonly #options: TraceFileOptions
  readonly #directory: string
  readonly #segmentBytes: number
  readonly #keepBytes: number
  readonly #bufferBytes: number
  #chunks: Chunk[] = []
  #segmentUsed = Number.POSITIVE_INFINITY
  #bufferedBytes = 0
  #timer: Timer | null = null
  #pumping: Promise<void> | null = null
  #failed = false
  #closed = false
  #rolling = false
  #file: { readonly handle: File; readonly name: string; offset: number } | null = null
  #number: number | null = null

  #ground: TraceFileGround | null = null

  constructor(options: TraceFileOptions) {
    this.#options = options
    this.level = options.level ?? 'message'
    this.#directory = options.directory ?? 'trace'
    this.#segmentBytes = options.segmentBytes ?? 16 * MIB
    this.#keepBytes = options.keepBytes ?? 16 * this.#segmentBytes
    this.#bufferBytes = options.bufferBytes ?? 8 * MIB
  }

  /** An environment is made with its writer, so the writer gets the environment afterwards; until then it buffers. */
  attach(ground: TraceFileGround): void {
    this.#ground = ground
    if (this.#bufferedBytes > 0) this.#startPump()
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  write(record: TraceRecord): void {
    if (this.#closed || this.#failed || this.#bufferedBytes > this.#bufferBytes) {
      this.#drop(1)
      return
    }
    if (this.#untold > 0) this.#tellDropped(record)
    this.#append(record)
  }

  /** Resolves when everything written before is with the operating system (or dropped). */
  async flush(): Promise<void> {
    this.#startPump()
    while (this.#pumping !== null) await this.#pumping
  }

  /** For an orderly end: also synced. */
  async close(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    await this.flush()
    await this.#closeFile()
  }

  #append(record: TraceRecord): void {
    const { process } = this.#options
    const payload = encodePayload(record, process)
    const bytes = HEAD_BYTES + payload.byteLength
    if (this.#segmentUsed === Number.POSITIVE_INFINITY) {
      this.#beginSegment()
      this.#rollSoon(false)
    } else if (this.#segmentUsed + bytes > this.#segmentBytes) this.#rollSoon(true)
    const chunk = this.#room(bytes, false)
    writeRecord(chunk.buffer, chunk.used, record, payload)
    chunk.used += bytes
    chunk.records += 1
    this.#segmentUsed += bytes
    this.#bufferedBytes += bytes
    // What was decided is with the system at once: who is killed a moment later has told others of it.
    if (chunk.used >= CHUNK_BYTES / 2 || record.level === 'decision') this.#startPump()
    else {
      this.#timer ??=
        this.#ground?.timers.after(this.#options.flushMs ?? 50, () => {
          this.#timer = null
          this.#startPump()
        }) ?? null
    }
  }

  /**
   * In a microtask: a core is synchronous, so by then it has done with its last input, and its snapshot lies between that
   * one and the next. What is recorded until then still goes to the old segment.
   */
  #rollSoon(begin: boolean): void {
    // Not for the snapshots themselves: they belong to their segment, whatever their size.
    if (this.#rolling) return
    this.#rolling = true
    queueMicrotask(() => {
      try {
        if (this.#closed || this.#failed) return
        if (begin) this.#beginSegment()
        this.#options.onSegment?.()
      } finally {
        this.#rolling = false
      }
    })
  }

  #beginSegment(): void {
    const { process, cluster = null } = this.#options
    const header = encodeSegmentHeader({ process, cluster })
    const chunk = this.#room(header.length, true)
    header.copy(chunk.buffer)
    chunk.used = header.length
    this.#segmentUsed = header.length
    this.#bufferedBytes += header.length
  }

  #room(bytes: number, opens: boolean): Chunk {
    const last = this.#chunks.at(-1)
    if (!opens && last !== undefined && last.used + bytes <= last.buffer.length) return last
    const chunk = {
      opens,
      buffer: Buffer.allocUnsafeSlow(Math.max(bytes, CHUNK_BYTES)),
      used: 0,
      written: 0,
      records: 0,
    }
    this.#chunks.push(chunk)
    return chunk
  }

  #drop(records: number): void {
    this.dropped += records
    this.#untold += records
  }

  #tellDropped(record: TraceRecord): void {
    const { hlc, at, process } = record
    const body = { count: this.#untold }
    this.#untold = 0
    this.#append({ hlc, at, process, seq: 0, level: 'decision', kind: 'trace.dropped', body })
  }

  // --- to the disk -------------------------------------------------------------------------------------------------------

  #startPump(): void {
    const ground = this.#ground
    if (ground === null || this.#pumping !== null || this.#bufferedBytes === 0) return
    this.#timer?.cancel()
    this.#timer = null
    this.#pumping = this.#pump(ground).then(() => {
      this.#pumping = null
    })
  }

  async #pump(ground: TraceFileGround): Promise<void> {
    try {
      while (this.#bufferedBytes > 0) {
        const chunk = this.#chunks[0]!
        if (chunk.written < chunk.used) await this.#writeChunk(chunk, ground.files)
        // The last one stays to be filled.
        else this.#chunks.shift()
      }
    } catch (error) {
      this.#fail(error, ground)
    }
  }

  async #writeChunk(chunk: Chunk, files: Files): Promise<void> {
    if (this.#file === null || (chunk.opens && chunk.written === 0)) await this.#openSegment(files)
    const file = this.#file!
    const from = chunk.written
    const to = chunk.used
    const records = chunk.records
    await file.handle.write(file.offset, [chunk.buffer.subarray(from, to)])
    file.offset += to - from
    chunk.written = to
    chunk.records -= records
    this.#bufferedBytes -= to - from
  }

  async #openSegment(files: Files): Promise<void> {
    await this.#closeFile()
    if (this.#number === null) await files.makeDirectory(this.#directory)
    const numbers = (await files.list(this.#directory)).map(segmentNumber).filter(number => number !== null)
    const number = Math.max(this.#number ?? 0, ...numbers) + 1
    await this.#makeRoom(files, numbers)
    const handle = await files.open(this.#path(number), { create: true })
    this.#number = number
    this.#file = { handle, name: this.#path(number), offset: 0 }
  }

  /** For a segment more: the newest stay. */
  async #makeRoom(files: Files, numbers: readonly number[]): Promise<void> {
    let bytes = this.#segmentBytes
    for (const [older, number] of [...numbers].sort((a, b) => b - a).entries()) {
      const path = this.#path(number)
      // Once there is no room for one there is none for those before it.
      if (bytes <= this.#keepBytes) bytes += await sizeOf(files, path)
      if (bytes > this.#keepBytes || older + 1 >= SEGMENTS_MAX) await files.remove(path)
    }
  }

  async #closeFile(): Promise<void> {
    const file = this.#file
    this.#file = null
    if (file === null) return
    try {
      await file.handle.sync()
    } finally {
      await file.handle.close()
    }
  }

  /** What was to be written is lost; later a new segment is tried. */
  #fail(error: unknown, { log, timers }: TraceFileGround): void {
    for (const chunk of this.#chunks) this.#drop(chunk.records)
    this.#chunks = []
    this.#bufferedBytes = 0
    this.#segmentUsed = Number.POSITIVE_INFINITY
    const where = this.#file?.name ?? this.#directory
    const handle = this.#file?.handle
    this.#file = null
    log.warn({ where, code: errorCode(error) }, `the trace is interrupted: ${errorMessage(error)}`)
    handle?.close().catch((closing: unknown) => {
      log.warn({ where, code: errorCode(closing) }, `closing a failed trace segment: ${errorMessage(closing)}`)
    })
    this.#failed = true
    if (this.#closed) return
    timers.after(RETRY_MS, () => {
      this.#failed = false
    })
  }

  #path(number: number): string {
    return `${this.#directory}/${segmentName(number)}`
  }
}

async function sizeOf(files: Files, path: string): Promise<number> {
  const file = await files.open(path)
  try {
    return await file.size()
  } finally {
    await file.close()
  }
}
