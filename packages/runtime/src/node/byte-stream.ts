// A byte stream on a TCP or unix socket. Parts go to the kernel as they are, many in one call.

import type { Socket } from 'node:net'
import type { ByteStream } from '../environment.ts'
import { MIB } from '../units.ts'
import { AutoCork } from './auto-cork.ts'
import { ReceiveSlab } from './receive-slab.ts'

/** `write` answers false from here on; the socket says drained when everything went to the kernel. */
export const STREAM_HIGH_WATER_BYTES = 1 * MIB
/** A peer that is gone without a word is found after this much silence and ten unanswered probes a second apart. */
const KEEPALIVE_IDLE_MS = 1000

type CloseState =
  | { readonly kind: 'open' }
  | { readonly kind: 'untold'; readonly error: Error | null }
  | { readonly kind: 'told' }

/** Whom node:net asks where to read to, and tells what it read. One for each socket, made before it. */
export class Receiver {
  /** Gives whether to read on. */
  onBytes: ((chunk: Uint8Array) => boolean) | null = null
  readonly #slab = new ReceiveSlab()
  readonly onread = {
    buffer: (): Uint8Array => this.#slab.room(),
    callback: (length: number): boolean => {
      const chunk = this.#slab.take(length)
      return this.onBytes === null ? true : this.onBytes(chunk)
    },
  }
}

export class SocketStream implements ByteStream {
  readonly peer: string
  readonly #socket: Socket
  readonly #receiver: Receiver
  readonly #cork: AutoCork
  #state: CloseState = { kind: 'open' }
  #error: Error | null = null
  #paused = false
  /** Read although paused: node:net starts reading once more after a resume that a pause has followed at once. */
  #held: Uint8Array[] = []
  /** Above high water and not drained since. */
  #full = false
  #ended = false
  #drain: (() => void) | null = null
  #data: ((chunk: Uint8Array) => void) | null = null
  #end: (() => void) | null = null
  #close: ((error: Error | null) => void) | null = null

  /** `socket` must be made with `allowHalfOpen` and `receiver.onread`, and be paused. */
  constructor(socket: Socket, receiver: Receiver, peer: string) {
    this.#socket = socket
    this.#receiver = receiver
    this.#cork = new AutoCork(socket)
    this.peer = peer
    socket.setNoDelay(true)
    socket.setKeepAlive(true, KEEPALIVE_IDLE_MS)
    socket.on('error', error => {
      this.#error = error
    })
    socket.on('close', () => this.#closed())
    socket.on('drain', () => {
      this.#full = false
      this.#drain?.()
    })
    socket.on('end', () => {
      this.#ended = true
      this.#end?.()
      // Without anybody to decide otherwise, the end of one half ends the other.
      if (this.#end === null) this.end()
    })
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength
  }

  write(parts: readonly Uint8Array[]): boolean {
    if (this.#state.kind !== 'open' || !this.#socket.writable) return false
    this.#cork.hold()
    for (const part of parts) this.#socket.write(part)
    if (this.#socket.writableLength >= STREAM_HIGH_WATER_BYTES) this.#full = true
    return !this.#full
  }

  onDrain(f: () => void): void {
    this.#drain = f
  }

  onData(f: (chunk: Uint8Array) => void): void {
    const isFirst = this.#data === null
    this.#data = f
    if (!isFirst) return
    this.#receiver.onBytes = chunk => {
      if (this.#paused) this.#held.push(chunk)
      // A chunk that was on its way when the stream was destroyed is not told any more.
      else if (this.#state.kind === 'open') this.#data?.(chunk)
      return !this.#paused
    }
    if (!this.#paused) this.#socket.resume()
  }

  pause(): void {
    this.#paused = true
    this.#socket.pause()
  }

  resume(): void {
    this.#paused = false
    if (this.#data === null) return
    while (this.#held.length > 0 && !this.#paused && this.#state.kind === 'open') this.#data(this.#held.shift()!)
    if (!this.#paused) this.#socket.resume()
  }

  onEnd(f: () => void): void {
    this.#end = f
    if (this.#ended) queueMicrotask(() => this.#end?.())
  }

  onClose(f: (error: Error | null) => void): void {
    this.#close = f
    if (this.#state.kind === 'untold') queueMicrotask(() => this.#tellClosed())
  }

  end(): void {
    if (!this.#socket.writable) return
    this.#cork.release()
    this.#socket.end()
  }

  destroy(): void {
    this.#state = { kind: 'told' }
    this.#socket.destroy()
  }

  #closed(): void {
    if (this.#state.kind !== 'open') return
    this.#state = { kind: 'untold', error: this.#error }
    this.#tellClosed()
  }

  #tellClosed(): void {
    const state = this.#state
    if (state.kind !== 'untold' || this.#close === null) return
    this.#state = { kind: 'told' }
    this.#close(state.error)
  }
}
