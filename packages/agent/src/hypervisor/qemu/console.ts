// The machine's serial port as lines.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'

/** A longer one is told in parts. */
const LINE_MAX_BYTES = 4096
const NEWLINE = 0x0a

export class SerialConsole {
  readonly #stream: ByteStream
  readonly #onLine: (line: string) => void
  /** Resolves when nothing more will be said. */
  readonly ended: Promise<void>
  #parts = Buffer.alloc(0)

  constructor(stream: ByteStream, onLine: (line: string) => void) {
    this.#stream = stream
    this.#onLine = onLine
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    stream.onData(chunk => this.#take(chunk))
    stream.onEnd(() => resolve())
    stream.onClose(() => resolve())
  }

  /** What comes waits in the machine's own port. */
  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }

  input(line: string): void {
    this.#stream.write([Buffer.from(`${line}\n`, 'utf8')])
  }

  #take(chunk: Uint8Array): void {
    let rest = Buffer.concat([this.#parts, chunk])
    for (let end = rest.indexOf(NEWLINE); end >= 0 || rest.length > LINE_MAX_BYTES; end = rest.indexOf(NEWLINE)) {
      const length = end >= 0 && end <= LINE_MAX_BYTES ? end : LINE_MAX_BYTES
      this.#onLine(rest.toString('utf8', 0, length).replace(/\r$/, ''))
      rest = rest.subarray(length === end ? length + 1 : length)
    }
    this.#parts = rest
  }
}
