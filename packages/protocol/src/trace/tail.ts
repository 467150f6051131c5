// Follows one process's trace while it is written: each poll gives what has come since the last, across rotations.

import type { Files, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { describeError, errorCode, type StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Numbers, type Position, readSegment, type TraceReadOptions, traceSegments } from './reader.ts'

/** What is half written is no cut: it is read when it is whole. */
export type TailOptions = Omit<TraceReadOptions, 'onTruncated'>

export class TraceTail {
  readonly #files: Files
  readonly #directory: string
  readonly #options: TailOptions
  readonly #numbers: Numbers = { last: null }
  /** The segment that is being read, null before the first, and how far; null: from its beginning. */
  #segment: string | null = null
  #position: Position | null = null
  #told = ''

  /** `first`: the path of the segment to begin with; the oldest unless told. */
  constructor(files: Files, directory: string, options: TailOptions = {}, first?: string) {
    this.#files = files
    this.#directory = directory
    this.#segment = first ?? null
    const { onTruncated: _, ...others }: TraceReadOptions = options
    // What is damaged, or missing, is met at every poll, but news only once.
    const isNews = (error: StellwerkError): boolean => {
      const what = describeError(error)
      if (what === this.#told) return false
      this.#told = what
      return true
    }
    this.#options = {
      ...others,
      onDamaged: error => {
        if (isNews(error)) options.onDamaged?.(error)
      },
      onGap: (error, before) => {
        if (isNews(error)) options.onGap?.(error, before)
      },
    }
  }

  async *poll(): AsyncGenerator<TraceRecord[]> {
    // Looked up before anything is read: a segment that has a successor by then is whole.
    const segments = await traceSegments(this.#files, this.#directory)
    for (const path of segments) {
      // Their names are in the order of their numbers.
      if (this.#segment !== null && path < this.#segment) continue
      if (path !== this.#segment) {
        this.#segment = path
        this.#position = null
      }
      try {
        const position = yield* readSegment(this.#files, path, this.#options, this.#numbers, this.#position)
        this.#position = position ?? this.#position
      } catch (error) {
        // Rotated out since the look.
        if (errorCode(error) !== 'missing-file') throw error
      }
    }
  }
}
