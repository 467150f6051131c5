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
  #isRefused = false
  /** QEMU has a piece before it that it has not taken yet. */
  #taken: PromiseWithResolvers<void> | null = null

  constructor(compute: Compute, stream: ByteStream, into: ByteStream) {
    this.#compute = compute
    this.#stream = stream
    this.#into = into
  }

  /** What stands behind the last piece, once all of them were taken. Rejects with `stream-lost`, `corrupt-data`. */
  run(): Promise<Loaded> {
    this.#into.onDrain(() => {
      this.#taken?.resolve()
      this.#taken = null
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
    if (this.#isRefused) return
    try {
      for (const framed of this.#decoder.take(chunk)) {
        if (framed.kind === 'end') this.#ended = true
        this.#waiting.push(framed)
      }
    } catch (error) {
      // Nothing behind it is what it seems.
      this.#isRefused = true
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
      const packed = next.sentBytes < next.length
      const data = packed ? [await this.#unpacked(next)] : next.body
      this.#decoder.check(data, next)
      // While QEMU takes one piece the next is made ready, and no more.
      await this.#taken?.promise
      if (!this.#into.write(data)) this.#taken = Promise.withResolvers()
    }
    this.#isPassing = false
    this.#stream.resume()
  }

  #unpacked({ body, sentBytes, length }: Piece): Promise<Uint8Array> {
    const [only] = body
    return this.#compute.decompress(body.length === 1 ? only! : Buffer.concat(body, sentBytes), length)
  }
}
