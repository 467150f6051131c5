// The machine's serial port: byte for byte, and as lines; and what of a line stands there for a while without an end, as a question does.

import { CONSOLE_RECENT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import type { ByteStream, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import type { PortState } from '../hypervisor.ts'

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
  /** All that it sends, before the lines of it, and how it stands since; nothing, when it has moved here. */
  output(bytes: Uint8Array, port: PortState): void
  line(line: string): void
  /** The beginning of a line, which is told whole when it has an end. */
  prompt(text: string): void
}

/** What goes with a machine that moves: how its port stands by what was told as output, and what was not. */
export interface PortHandover extends PortState {
  /** The line that has no end yet, and all that came since the port was held. */
  readonly unheard: Uint8Array
  /** So many of these were told as output. */
  readonly shown: number
}

export class SerialConsole {
  readonly #stream: ByteStream
  readonly #timers: Timers
  readonly #tell: ConsoleListener
  /** Resolves when nothing more will be said. */
  readonly ended: Promise<void>
  /** No line's end is in it, unless it is held. */
  #rest: Buffer = Buffer.alloc(0)
  /** How much of the rest was told as output; null: not held, all of it. */
  #shown: number | null = null
  #quiet: Timer | null = null
  #life: string
  #at = 0
  #recent: Buffer = Buffer.alloc(0)
  #read: Promise<void> = Promise.resolve()

  /** `life`: of a machine that is made; one that moves here brings its own. */
  constructor(stream: ByteStream, timers: Timers, life: string, tell: ConsoleListener) {
    this.#stream = stream
    this.#life = life
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

  get life(): string {
    return this.#life
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
    if (this.#shown !== null) this.#tellAll(this.#rest, this.#shown)
  }

  get handover(): PortHandover {
    const unheard = this.#rest
    return { ...this.#state, unheard, shown: this.#shown ?? unheard.length }
  }

  /** Of where it comes from: what it has sent there comes before all that it sends here. */
  precede({ life, at, recent, unheard, shown }: PortHandover): void {
    this.#life = life
    this.#at = at
    this.#recent = Buffer.from(recent)
    this.#tell.output(new Uint8Array(0), this.#state)
    this.#tellAll(Buffer.concat([unheard, this.#rest]), shown)
  }

  #tellAll(bytes: Buffer, shown: number): void {
    this.#rest = bytes.subarray(0, shown)
    this.#shown = null
    this.#take(bytes.subarray(shown))
  }

  #take(chunk: Uint8Array): void {
    let rest = Buffer.concat([this.#rest, chunk])
    if (this.#shown !== null) {
      this.#rest = rest
      return
    }
    if (chunk.length > 0) this.#output(chunk)
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

  #output(bytes: Uint8Array): void {
    this.#at += bytes.length
    // A copy: of a chunk that is kept by its end all of it would be kept.
    this.#recent = Buffer.from(Buffer.concat([this.#recent, bytes]).subarray(-CONSOLE_RECENT_BYTES))
    this.#tell.output(bytes, this.#state)
  }

  get #state(): PortState {
    return { life: this.#life, at: this.#at, recent: this.#recent }
  }
}
