// Passes on to QEMU what comes over a link, unpacked and checked piece by piece, in order; and never holds much of it.

import type { ByteStream, Compute } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Loaded } from '../hypervisor.ts'
import { type Framed, type Piece, StreamDecoder } from './stream-format.ts'

export class StreamReceiver {
  readonly #compute: Compute
  readonly #stream: ByteStream
  readonly #into: ByteStream
  readonly #decoder = new StreamDecoder()
  readonly #loaded = Promise.withResolvers<Loaded>()
  #waiting: Framed[] = []
  #isPassing = false
  #ended = false
  #drained: (() => void) | null = null

  constructor(compute: Compute, stream: ByteStream, into: ByteStream) {
    this.#compute = compute
    this.#stream = stream
    this.#into = into
  }

  /** What stands behind the last piece, once all of them were taken. Rejects with `stream-lost`, `corrupt-data`. */
  run(): Promise<Loaded> {
    this.#into.onDrain(() => {
      this.#drained?.()
      this.#drained = null
    })
    const lost = (why: string): void => {
      if (!this.#ended) this.#loaded.reject(new StellwerkError('stream-lost', why))
    }
    this.#stream.onEnd(() => lost('the stream ended before its end'))
    this.#stream.onClose(error => lost(error === null ? 'the stream was closed' : errorMessage(error)))
    this.#stream.onData(chunk => this.#take(chunk))
    return this.#loaded.promise
  }

  #take(chunk: Uint8Array): void {
    try {
      for (const framed of this.#decoder.take(chunk)) {
        if (framed.kind === 'end') this.#ended = true
        this.#waiting.push(framed)
      }
    } catch (error) {
      this.#loaded.reject(error)
      return
    }
    if (!this.#isPassing && this.#waiting.length > 0) {
      this.#pass().catch((error: unknown) => this.#loaded.reject(error))
    }
  }

  async #pass(): Promise<void> {
    this.#isPassing = true
    // What a link has on its way already still comes.
    this.#stream.pause()
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (next.kind === 'end') {
        this.#loaded.resolve({ stateChecksum: this.#decoder.checksum, trailer: next.trailer })
        continue
      }
      const data = await this.#unpacked(next)
      this.#decoder.check(data, next)
      if (this.#into.write([data])) continue
      await new Promise<void>(resolve => {
        this.#drained = resolve
      })
    }
    this.#isPassing = false
    this.#stream.resume()
  }

  #unpacked({ body, length }: Piece): Promise<Uint8Array> | Uint8Array {
    return body.length === length ? body : this.#compute.decompress(body, length)
  }
}
