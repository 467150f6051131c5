// The target's side of the stream: parses frames as the bytes come, checks each, puts the pages in place. Nothing is
// believed before its checksum, nothing is allocated on the word of the stream beyond one frame.

import { crc32 } from 'node:zlib'
import type { ByteStream, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import {
  checkFrameHead,
  corrupt,
  decodeFinalBody,
  decodeFrameHeader,
  decodeStreamHeader,
  FRAME_FINAL,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  INDEX_ENTRY_BYTES,
  MAX_BODY_BYTES,
  STREAM_HEADER_BYTES,
  ZERO_PAGE_BIT,
} from './format.ts'
import { PAGE_BYTES, PageChecksums } from './state-checksum.ts'

export interface ReceivedImage {
  readonly registers: Uint8Array
  readonly stateChecksum: number
  readonly trailer: Json
}

/** Bytes that are to come, filled from chunks of any size. */
class Part {
  readonly buffer: Buffer
  filled = 0

  constructor(buffer: Buffer) {
    this.buffer = buffer
  }

  get complete(): boolean {
    return this.filled === this.buffer.length
  }

  /** Takes what it needs; returns the rest. */
  take(chunk: Uint8Array): Uint8Array {
    const count = Math.min(chunk.length, this.buffer.length - this.filled)
    this.buffer.set(count === chunk.length ? chunk : chunk.subarray(0, count), this.filled)
    this.filled += count
    return chunk.subarray(count)
  }
}

type Stage =
  | { readonly at: 'stream-header'; readonly part: Part }
  | { readonly at: 'frame-header'; readonly part: Part }
  | { readonly at: 'index'; readonly part: Part; readonly header: FrameHeader }
  | { readonly at: 'body'; readonly part: Part; readonly header: FrameHeader; readonly index: Buffer }
  | { readonly at: 'end' }

export class PageReceiver {
  readonly #env: Environment
  readonly #memory: Buffer
  readonly #checksums: PageChecksums
  #stage: Stage = { at: 'stream-header', part: new Part(Buffer.alloc(STREAM_HEADER_BYTES)) }
  #pagesBuffer: Buffer | null = null
  #round = 0
  #image: ReceivedImage | null = null

  constructor(env: Environment, memory: Buffer) {
    this.#env = env
    this.#memory = memory
    this.#checksums = new PageChecksums(memory.length / PAGE_BYTES)
  }

  /** What arrived, once the final frame did. */
  get image(): ReceivedImage | null {
    return this.#image
  }

  /** Parses a chunk. The promise, if there is one, is of work off the loop: no further chunk before it resolves. */
  push(chunk: Uint8Array): Promise<void> | null {
    let rest = chunk
    while (rest.length > 0) {
      const stage = this.#stage
      if (stage.at === 'end') throw corrupt('bytes behind its end')
      rest = stage.part.take(rest)
      if (!stage.part.complete) return null
      const waiting = this.#advance(stage)
      if (waiting !== null) return rest.length === 0 ? waiting : waiting.then(() => this.push(rest) ?? undefined)
    }
    return null
  }

  #advance(stage: Exclude<Stage, { at: 'end' }>): Promise<void> | null {
    switch (stage.at) {
      case 'stream-header': {
        const pages = decodeStreamHeader(stage.part.buffer)
        const here = this.#memory.length / PAGE_BYTES
        if (pages !== here) throw corrupt(`it carries ${pages} pages of memory, the machine here has ${here}`)
        this.#nextFrame()
        return null
      }
      case 'frame-header': {
        const header = decodeFrameHeader(stage.part.buffer)
        const part = new Part(Buffer.alloc(FRAME_HEADER_BYTES + header.entries * INDEX_ENTRY_BYTES))
        part.take(stage.part.buffer)
        this.#stage = { at: 'index', part, header }
        return null
      }
      case 'index': {
        checkFrameHead(stage.part.buffer)
        const { header } = stage
        if (header.round < this.#round) throw corrupt(`round ${header.round} after round ${this.#round}`)
        this.#round = header.round
        const index = stage.part.buffer.subarray(FRAME_HEADER_BYTES)
        this.#stage = { at: 'body', part: new Part(this.#bodyBuffer(header)), header, index }
        // Only zero pages: there is no body to wait for.
        return header.bodyBytes === 0 ? this.#body(header, index, stage.part.buffer.subarray(0, 0)) : null
      }
      case 'body':
        return this.#body(stage.header, stage.index, stage.part.buffer)
    }
  }

  #body(header: FrameHeader, index: Buffer, body: Buffer): Promise<void> | null {
    if (header.type === FRAME_FINAL) {
      this.#final(index, body)
      this.#stage = { at: 'end' }
      return null
    }
    this.#nextFrame()
    if (!header.compressed) {
      this.#place(index, body)
      return null
    }
    return this.#env.compute.decompress(body, header.rawBytes).then(
      raw => this.#place(index, Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)),
      error => {
        throw corrupt(`a compressed frame does not unpack (${errorMessage(error)})`)
      },
    )
  }

  /** One buffer for the pages of all frames: a frame is done with before the next begins. */
  #bodyBuffer(header: FrameHeader): Buffer {
    if (header.type === FRAME_FINAL) return Buffer.allocUnsafe(header.bodyBytes)
    this.#pagesBuffer ??= Buffer.allocUnsafeSlow(MAX_BODY_BYTES)
    return this.#pagesBuffer.subarray(0, header.bodyBytes)
  }

  #nextFrame(): void {
    this.#stage = { at: 'frame-header', part: new Part(Buffer.alloc(FRAME_HEADER_BYTES)) }
  }

  #place(index: Buffer, raw: Buffer): void {
    const pages = this.#memory.length / PAGE_BYTES
    let from = 0
    for (let at = 0; at < index.length; at += INDEX_ENTRY_BYTES) {
      const entry = index.readUInt32LE(at)
      const isZero = entry >= ZERO_PAGE_BIT
      const page = isZero ? entry - ZERO_PAGE_BIT : entry
      if (page >= pages) throw corrupt(`page ${page} of a memory of ${pages}`)
      const start = page * PAGE_BYTES
      if (isZero) {
        this.#memory.fill(0, start, start + PAGE_BYTES)
      } else {
        if (from + PAGE_BYTES > raw.length) throw corrupt('a frame with fewer bytes than its pages')
        raw.copy(this.#memory, start, from, from + PAGE_BYTES)
        from += PAGE_BYTES
      }
      // From the memory itself, so that the checksum of the whole speaks of what will run.
      const crc = crc32(this.#memory.subarray(start, start + PAGE_BYTES))
      if (crc !== index.readUInt32LE(at + 4)) throw corrupt(`page ${page} fails its checksum`)
      this.#checksums.set(page, crc)
    }
    if (from !== raw.length) throw corrupt('a frame with more bytes than its pages')
  }

  #final(index: Buffer, body: Buffer): void {
    if (crc32(body) !== index.readUInt32LE(4)) throw corrupt('the final frame fails its checksum')
    const final = decodeFinalBody(body)
    const stateChecksum = this.#checksums.whole(final.registers)
    if (stateChecksum !== final.stateChecksum) throw corrupt('the state that arrived is not the one that was released')
    let trailer: Json
    try {
      trailer = JSON.parse(Buffer.from(final.trailer).toString('utf8'))
    } catch (error) {
      throw corrupt(`its trailer is no JSON (${errorMessage(error)})`)
    }
    this.#image = { registers: final.registers, stateChecksum, trailer }
  }
}

/** Reads the stream to its end. Rejects with `corrupt-data` or `stream-lost`, and drops the stream then. */
export function receiveImage(env: Environment, stream: ByteStream, memory: Buffer): Promise<ReceivedImage> {
  return new Promise((resolve, reject) => {
    const receiver = new PageReceiver(env, memory)
    let settled = false
    let pending: Promise<void> | null = null
    let over: { readonly error: Error | null } | null = null
    const fail = (error: unknown): void => {
      if (settled) return
      settled = true
      stream.destroy()
      reject(error)
    }
    const finish = (): void => {
      if (settled || over === null || pending !== null) return
      if (receiver.image === null) {
        const why = over.error === null ? 'it ended before its final frame' : errorMessage(over.error)
        fail(new StellwerkError('stream-lost', `the migration stream is gone: ${why}`, { retryable: true }))
        return
      }
      settled = true
      stream.destroy()
      resolve(receiver.image)
    }
    const held: Uint8Array[] = []
    const take = (chunk: Uint8Array): void => {
      if (settled) return
      // A stream may deliver what it had already read after `pause`.
      if (pending !== null) {
        held.push(chunk)
        return
      }
      try {
        pending = receiver.push(chunk)
      } catch (error) {
        fail(error)
        return
      }
      if (pending === null) {
        // The final frame is the end, whether or not the sender's half is closed yet.
        if (receiver.image !== null) {
          over ??= { error: null }
          finish()
        }
        return
      }
      stream.pause()
      pending.then(() => {
        pending = null
        while (held.length > 0 && pending === null && !settled) take(held.shift()!)
        if (pending !== null || settled) return
        stream.resume()
        finish()
      }, fail)
    }
    stream.onEnd(() => {
      over ??= { error: null }
      finish()
    })
    stream.onClose(error => {
      over ??= { error: error ?? new Error('closed') }
      finish()
    })
    stream.onData(take)
  })
}
