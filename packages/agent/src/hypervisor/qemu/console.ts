// The machine's serial port as lines; and what of a line stands there for a while without an end, as a question does.

import type { ByteStream, Timer, Timers } from '@stellwerk/runtime/environment.ts'

/** A longer one is told in parts. */
const LINE_MAX_BYTES = 4096
const NEWLINE = 0x0a
/** Whatever has no end by then waits for an answer. */
const PROMPT_MS = 200

export class SerialConsole {
  readonly #stream: ByteStream
  readonly #timers: Timers
  readonly #onLine: (line: string) => void
  readonly #onPrompt: (text: string) => void
  /** Resolves when nothing more will be said. */
  readonly ended: Promise<void>
  #parts = Buffer.alloc(0)
  #isHeld = false
  #quiet: Timer | null = null

  /** `onPrompt`: the beginning of a line, which is told whole when it has an end. */
  constructor(stream: ByteStream, timers: Timers, onLine: (line: string) => void, onPrompt: (text: string) => void) {
    this.#stream = stream
    this.#timers = timers
    this.#onLine = onLine
    this.#onPrompt = onPrompt
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    stream.onData(chunk => this.#take(chunk))
    const over = (): void => {
      this.#quiet?.cancel()
      resolve()
    }
    stream.onEnd(over)
    stream.onClose(over)
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

  /** What comes from now on is kept as it is, beside the line that has no end yet. */
  hold(): void {
    this.#isHeld = true
    this.#quiet?.cancel()
  }

  unhold(): void {
    this.#isHeld = false
    this.#take(new Uint8Array(0))
  }

  /** What was not told yet. */
  get rest(): Uint8Array {
    return this.#parts
  }

  /** Bytes that were said before all that comes here. */
  precede(bytes: Uint8Array): void {
    this.#parts = Buffer.concat([bytes, this.#parts])
    this.#take(new Uint8Array(0))
  }

  #take(chunk: Uint8Array): void {
    let rest = Buffer.concat([this.#parts, chunk])
    if (this.#isHeld) {
      this.#parts = rest
      return
    }
    for (let end = rest.indexOf(NEWLINE); end >= 0 || rest.length > LINE_MAX_BYTES; end = rest.indexOf(NEWLINE)) {
      const length = end >= 0 && end <= LINE_MAX_BYTES ? end : LINE_MAX_BYTES
      this.#onLine(rest.toString('utf8', 0, length).replace(/\r$/, ''))
      rest = rest.subarray(length === end ? length + 1 : length)
    }
    this.#parts = rest
    this.#quiet?.cancel()
    if (rest.length === 0) return
    this.#quiet = this.#timers.after(PROMPT_MS, () => this.#onPrompt(rest.toString('utf8').replace(/\r$/, '')))
  }
}
