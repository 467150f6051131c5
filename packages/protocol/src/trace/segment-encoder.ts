// One process's records as the bytes of segments, for those who have nothing to wait for: the same records give the same bytes.
// What writes in the background of a living process is file-writer.ts.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { encodePayload, encodeSegmentHeader, HEAD_BYTES, type SegmentAbout, writeRecord } from './segment-format.ts'

export interface SegmentSink {
  /** A new segment begins: it gets the bytes from now on. Numbers count from 1. */
  begin(number: number): void
  append(bytes: Uint8Array): void
}

const BUFFER_BYTES = 256 * KIB
const SEGMENT_BYTES = 16 * MIB

export class SegmentEncoder {
  readonly #about: SegmentAbout
  readonly #sink: SegmentSink
  readonly #segmentBytes: number
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
  #used = 0
  #segmentUsed = 0
  #number = 0
  #lastSeq = 0

  constructor(about: SegmentAbout, sink: SegmentSink, segmentBytes = SEGMENT_BYTES) {
    this.#about = about
    this.#sink = sink
    this.#segmentBytes = segmentBytes
  }

  /** A lower number than the last is another run's of the process, which begins a segment as it does in life. */
  write(record: TraceRecord): void {
    const payload = encodePayload(record, this.#about.process)
    const bytes = HEAD_BYTES + payload.byteLength
    const again = record.seq !== 0 && record.seq <= this.#lastSeq
    if (this.#number === 0 || again || this.#segmentUsed + bytes > this.#segmentBytes) this.#begin()
    if (record.seq !== 0) this.#lastSeq = record.seq
    this.#room(bytes)
    writeRecord(this.#buffer, this.#used, record, payload)
    this.#used += bytes
    this.#segmentUsed += bytes
  }

  flush(): void {
    if (this.#used > 0) this.#sink.append(this.#buffer.subarray(0, this.#used))
    this.#used = 0
  }

  #begin(): void {
    this.flush()
    this.#number += 1
    this.#sink.begin(this.#number)
    const header = encodeSegmentHeader(this.#about)
    header.copy(this.#buffer)
    this.#used = header.length
    this.#segmentUsed = header.length
  }

  #room(bytes: number): void {
    if (this.#used + bytes <= this.#buffer.length) return
    this.flush()
    if (bytes > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(bytes)
  }
}
