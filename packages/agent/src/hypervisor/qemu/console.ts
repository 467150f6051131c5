// The machine's serial port: byte for byte, and as lines; and what of a line stands there for a while without an end, as a question does.

import type { ByteStream, Timer, Timers } from '@stellwerk/runtime/environment.ts'

/** A longer one is told in parts. */
const LINE_MAX_BYTES = 4096
const NEWLINE = 0x0a
/** Whatever has no end by then waits for an answer. */
const PROMPT_MS = 200
/** A guest that stands still reads nothing: so much is kept for it. */
const TYPED_MAX_BYTES = 65_536
/** QEMU reads what was typed as the guest's port has room for it, and does not say when: a guest that executes has read it by then. */
const READ_MS = 200

export interface ConsoleListener {
  /** All that it sends, before the lines of it. */
  output(bytes: Uint8Array): void
  line(line: string): void
  /** The beginning of a line, which is told whole when it has an end. */
  prompt(text: string): void
}

/** What goes with a machine that moves. */
export interface Unheard {
  /** The line that has no end yet, and all that came since the port was held. */
  readonly bytes: Uint8Array
  /** So many of them were told already, as output. */
  readonly shown: number
}

export class SerialConsole {
  readonly #stream: ByteStream
  readonly #timers: Timers
  readonly #tell: ConsoleListener
  /** Resolves when nothing more will be said. */
  readonly ended: Promise<void>
  /** No line's end is in it, unless it is held. */
  #rest = Buffer.alloc(0)
  /** How much of the rest was told as output; null: not held, all of it. */
  #shown: number | null = null
  #quiet: Timer | null = null
  #read: Promise<void> = Promise.resolve()

  constructor(stream: ByteStream, timers: Timers, tell: ConsoleListener) {
    this.#stream = stream
    this.#timers = timers
    this.#tell = tell
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

  /** False: its guest has not read what was typed before, and this was not. */
  type(bytes: Uint8Array): boolean {
    if (this.#stream.bufferedBytes + bytes.length > TYPED_MAX_BYTES) return false
    this.#stream.write([bytes])
    this.#read = new Promise(resolve => void this.#timers.after(READ_MS, resolve))
    return true
  }

  /** Resolves when what was typed until now was most likely read: what was not ends with the QEMU that it was typed to. */
  get read(): Promise<void> {
    return this.#read
  }

  /** What comes from now on is kept as it is, beside the line that has no end yet. */
  hold(): void {
    this.#shown ??= this.#rest.length
    this.#quiet?.cancel()
  }

  unhold(): void {
    if (this.#shown === null) return
    this.precede({ bytes: new Uint8Array(0), shown: this.#shown })
  }

  get unheard(): Unheard {
    return { bytes: this.#rest, shown: this.#shown ?? this.#rest.length }
  }

  /** Bytes that were said before all that was kept here. */
  precede({ bytes, shown }: Unheard): void {
    const all = Buffer.concat([bytes, this.#rest])
    this.#rest = all.subarray(0, shown)
    this.#shown = null
    this.#take(all.subarray(shown))
  }

  #take(chunk: Uint8Array): void {
    let rest = Buffer.concat([this.#rest, chunk])
    if (this.#shown !== null) {
      this.#rest = rest
      return
    }
    if (chunk.length > 0) this.#tell.output(chunk)
    for (let end = rest.indexOf(NEWLINE); end >= 0 || rest.length > LINE_MAX_BYTES; end = rest.indexOf(NEWLINE)) {
      const length = end >= 0 && end <= LINE_MAX_BYTES ? end : LINE_MAX_BYTES
      this.#tell.line(rest.toString('utf8', 0, length).replace(/\r$/, ''))
      rest = rest.subarray(length === end ? length + 1 : length)
    }
    this.#rest = rest
    this.#quiet?.cancel()
    if (rest.length === 0) return
    this.#quiet = this.#timers.after(PROMPT_MS, () => this.#tell.prompt(rest.toString('utf8').replace(/\r$/, '')))
  }
}
