// Sends pages as frames and waits where the stream's reader is slower. Which pages, and when, is the caller's business.

import { crc32 } from 'node:zlib'
import type { ByteStream, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { CompressionChoice } from './compression.ts'
import {
  BATCH_PAGES,
  encodeFinalBody,
  encodeFrameHead,
  encodeStreamHeader,
  FRAME_FINAL,
  FRAME_PAGES,
  INDEX_ENTRY_BYTES,
  MAX_FINAL_BYTES,
  ZERO_PAGE_BIT,
} from './format.ts'
import type { Shadow } from './shadow.ts'
import { PAGE_BYTES, PageChecksums, ZERO_PAGE_CRC } from './state-checksum.ts'

const ZERO_PAGE = Buffer.alloc(PAGE_BYTES)

export class PageSender {
  pagesSent = 0
  bytesSent = 0
  readonly #env: Environment
  readonly #stream: ByteStream
  readonly #shadow: Shadow
  readonly #checksums: PageChecksums
  readonly #compression = new CompressionChoice()
  #lost: StellwerkError | null = null
  #wake: (() => void) | null = null

  constructor(env: Environment, stream: ByteStream, shadow: Shadow) {
    this.#env = env
    this.#stream = stream
    this.#shadow = shadow
    this.#checksums = new PageChecksums(shadow.pages)
    stream.onDrain(() => {
      this.#compression.drained(env.clock.now())
      this.#wakeUp()
    })
    stream.onClose(error => {
      const why = error === null ? 'its reader closed it' : errorMessage(error)
      this.fail(new StellwerkError('stream-lost', `the migration stream is gone: ${why}`, { retryable: true }))
    })
    this.#write([encodeStreamHeader(shadow.pages)])
  }

  /** Sends one frame of at most BATCH_PAGES pages as they are now. */
  async sendBatch(round: number, pages: readonly number[]): Promise<void> {
    // A new buffer per batch: the stream holds on to it until it is sent.
    const raw = Buffer.allocUnsafeSlow(pages.length * PAGE_BYTES)
    const index = Buffer.allocUnsafe(pages.length * INDEX_ENTRY_BYTES)
    let rawBytes = 0
    pages.forEach((page, n) => {
      this.#shadow.take(page, raw, rawBytes)
      const content = raw.subarray(rawBytes, rawBytes + PAGE_BYTES)
      const isZero = content.equals(ZERO_PAGE)
      const crc = isZero ? ZERO_PAGE_CRC : crc32(content)
      this.#checksums.set(page, crc)
      index.writeUInt32LE(isZero ? (page | ZERO_PAGE_BIT) >>> 0 : page, n * INDEX_ENTRY_BYTES)
      index.writeUInt32LE(crc, n * INDEX_ENTRY_BYTES + 4)
      if (!isZero) rawBytes += PAGE_BYTES
    })
    this.pagesSent += pages.length
    const plain = raw.subarray(0, rawBytes)
    const before = this.#env.clock.now()
    const packed = rawBytes > 0 ? await this.#packed(plain) : null
    // Sent plain when it did not shrink: the other side is spared the work.
    const compressed = packed !== null && packed.length < rawBytes
    const body = compressed ? packed : plain
    const header = {
      type: FRAME_PAGES,
      compressed,
      round,
      entries: pages.length,
      rawBytes,
      bodyBytes: body.length,
    } as const
    const head = encodeFrameHead(header, index)
    await this.#send([head, body], rawBytes, before)
  }

  /** Null: it goes as it is. */
  async #packed(plain: Uint8Array): Promise<Uint8Array | null> {
    const kind = this.#compression.choose([plain])
    if (kind === null) return null
    const before = this.#env.clock.now()
    const packed = await this.#env.compute.compress(plain)
    this.#compression.packed(kind, plain.length, this.#env.clock.now() - before)
    return packed
  }

  async sendAll(round: number, pages: readonly number[]): Promise<void> {
    for (let from = 0; from < pages.length; from += BATCH_PAGES) {
      await this.sendBatch(round, pages.slice(from, from + BATCH_PAGES))
    }
  }

  /** The checksum of the memory as it is, given the pages that differ from what was sent. */
  checksumOf(memory: Buffer, dirty: readonly number[], registers: Uint8Array): number {
    for (const page of dirty) {
      this.#checksums.set(page, crc32(memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)))
    }
    return this.#checksums.whole(registers)
  }

  /** Ends the stream: everything the other side needs is now on its way. */
  async finish(round: number, registers: Uint8Array, trailer: Json): Promise<number> {
    const stateChecksum = this.#checksums.whole(registers)
    const body = encodeFinalBody({ stateChecksum, registers, trailer: Buffer.from(JSON.stringify(trailer)) })
    if (body.length > MAX_FINAL_BYTES) {
      throw new StellwerkError('trailer-too-large', `what goes behind the last page is ${body.length} bytes`, {
        hint: `at most ${MAX_FINAL_BYTES} fit`,
      })
    }
    const index = Buffer.alloc(INDEX_ENTRY_BYTES)
    index.writeUInt32LE(crc32(body), 4)
    const lengths = { rawBytes: body.length, bodyBytes: body.length }
    const header = { type: FRAME_FINAL, compressed: false, round, entries: 1, ...lengths } as const
    this.#throwIfLost()
    this.#write([encodeFrameHead(header, index), body])
    this.#stream.end()
    return stateChecksum
  }

  /** Whoever waits for the stream, now or later, gets this error; nothing more is sent. */
  fail(error: StellwerkError): void {
    this.#lost ??= error
    this.#wakeUp()
  }

  /** Until the stream would take more. `since`: when the first of it was begun. */
  async #send(parts: readonly Uint8Array[], rawBytes: number, since: number): Promise<void> {
    this.#throwIfLost()
    const before = this.bytesSent
    const takesMore = this.#write(parts)
    this.#compression.written(this.bytesSent - before, takesMore ? null : this.#env.clock.now())
    if (!takesMore) {
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
      this.#throwIfLost()
    }
    this.#compression.taken(rawBytes, this.#env.clock.now() - since)
  }

  #write(parts: readonly Uint8Array[]): boolean {
    for (const part of parts) this.bytesSent += part.length
    return this.#stream.write(parts)
  }

  #throwIfLost(): void {
    if (this.#lost !== null) throw this.#lost
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }
}
