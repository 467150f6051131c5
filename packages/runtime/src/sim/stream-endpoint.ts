// One end of a simulated byte stream: a send buffer behind a window, half-close, back-pressure, and bytes that arrive in
// pieces other than they were written in.

import type { ByteStream } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { KIB } from '../units.ts'
import type { Connection, Endpoint, Opening, Segment } from './connection.ts'
import type { SimProcess } from './process.ts'

/** Bytes in flight or not yet consumed by the reader; the rest waits in the writer's buffer. */
const WINDOW_BYTES = 256 * KIB
/** `write` says false while more than this waits. */
const HIGH_WATER_BYTES = 1024 * KIB
const CHUNK_MAX_BYTES = 64 * KIB
/** A fragmented chunk becomes at most so many pieces. */
const PIECES_MAX = 4

export class StreamEndpoint implements ByteStream, Endpoint {
  readonly peer: string
  readonly process: SimProcess
  readonly #connection: Connection
  /** Until the peer's side has answered the dial. */
  #opening: Opening | null
  #other: StreamEndpoint | null = null
  #closed = false
  // sending
  #backlog: Uint8Array[] = []
  #bufferedBytes = 0
  #unconsumedBytes = 0
  #pumping = false
  #full = false
  #ending = false
  #endSent = false
  // receiving
  #received: Uint8Array[] = []
  #paused = false
  #flushing = false
  #endReceived = false
  #endTold = false
  /** It closed before anybody listened. */
  #untoldClose: { readonly error: Error | null } | null = null
  #drainListener: (() => void) | null = null
  #dataListener: ((chunk: Uint8Array) => void) | null = null
  #endListener: (() => void) | null = null
  #closeListener: ((error: Error | null) => void) | null = null

  constructor(process: SimProcess, connection: Connection, peer: string, opening: Opening | null) {
    this.process = process
    this.peer = peer
    this.#connection = connection
    this.#opening = opening
  }

  /** The other end, whose reading gives this end's window back. */
  pair(other: StreamEndpoint): void {
    this.#other = other
    other.#other = this
  }

  get closed(): boolean {
    return this.#closed
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  // --- writing -------------------------------------------------------------------------------------------------------

  write(parts: readonly Uint8Array[]): boolean {
    if (this.#closed || this.#ending || !this.process.alive) return false
    const chunk = joined(parts)
    if (chunk.byteLength === 0) return !this.#full
    this.#bufferedBytes += chunk.byteLength
    this.process.effect(() => {
      this.#backlog.push(chunk)
      this.#pump()
    })
    // Stays so until it has drained, as with a real one: who was told to wait is told to go on.
    if (this.#bufferedBytes > HIGH_WATER_BYTES) this.#full = true
    return !this.#full
  }

  onDrain(f: () => void): void {
    this.#drainListener = f
  }

  end(): void {
    if (this.#ending || this.#closed) return
    this.#ending = true
    this.process.effect(() => this.#pump())
  }

  destroy(): void {
    if (this.#closed) return
    this.#closed = true
    this.#backlog = []
    this.#bufferedBytes = 0
    this.process.effect(() => {
      if (!this.#endSent) this.#connection.pipeFrom(this).send({ kind: 'end' })
      this.#connection.network.forgetWhenOver(this.#connection)
    })
  }

  #pump(): void {
    if (this.#closed) return
    const pipe = this.#connection.pipeFrom(this)
    while (this.#unconsumedBytes < WINDOW_BYTES) {
      const first = this.#backlog[0]
      if (first === undefined) break
      const room = Math.min(CHUNK_MAX_BYTES, WINDOW_BYTES - this.#unconsumedBytes)
      const chunk = first.byteLength <= room ? first : first.subarray(0, room)
      if (chunk === first) this.#backlog.shift()
      else this.#backlog[0] = first.subarray(room)
      this.#bufferedBytes -= chunk.byteLength
      this.#unconsumedBytes += chunk.byteLength
      for (const piece of this.#pieces(chunk)) pipe.send({ kind: 'data', chunk: piece })
    }
    if (this.#backlog.length > 0) return
    if (this.#full) {
      this.#full = false
      this.process.later(0, () => this.#drainListener?.())
    }
    if (this.#ending && !this.#endSent) {
      this.#endSent = true
      pipe.send({ kind: 'end' })
      this.#closeWhenBothEnded()
    }
  }

  #pieces(chunk: Uint8Array): readonly Uint8Array[] {
    const { random, fragmentation } = this.#connection.network
    if (!random.chance(fragmentation) || chunk.byteLength < 2) return [chunk]
    const cuts = Array.from({ length: 1 + random.int(PIECES_MAX - 1) }, () => 1 + random.int(chunk.byteLength - 1))
    const ends = [...new Set(cuts), chunk.byteLength].sort((a, b) => a - b)
    return ends.map((end, index) => chunk.subarray(ends[index - 1] ?? 0, end))
  }

  /** The reader took bytes: the window opens, one latency later if somebody waits for it. */
  #consumed(bytes: number): void {
    this.#unconsumedBytes -= bytes
    if (this.#backlog.length === 0 || this.#pumping) return
    this.#pumping = true
    const { network, forward } = this.#connection
    network.sim.schedule(network.profile(forward.traffic.network).latencyMs, null, () => {
      this.#pumping = false
      // The kernel sends what it holds, also for a paused process.
      if (this.process.alive) this.#pump()
    })
  }

  // --- reading -------------------------------------------------------------------------------------------------------

  onData(f: (chunk: Uint8Array) => void): void {
    this.#dataListener = f
    this.#flushLater()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#flushLater()
  }

  onEnd(f: () => void): void {
    this.#endListener = f
  }

  onClose(f: (error: Error | null) => void): void {
    this.#closeListener = f
    const untold = this.#untoldClose
    this.#untoldClose = null
    if (untold !== null) this.process.later(0, () => this.#tellClose(untold.error))
  }

  receive(segment: Segment): void {
    this.process.deliver(() => {
      if (this.#closed) return
      if (segment.kind === 'established') this.#established()
      else if (segment.kind === 'data') {
        this.#received.push(segment.chunk)
        this.#flush()
      } else if (segment.kind === 'end') {
        this.#endReceived = true
        this.#flush()
      } else {
        this.#flush()
        this.#lost(segment.kind === 'reset' ? segment.reason : 'connection reset')
      }
    })
  }

  broken(reason: string): void {
    this.process.deliver(() => this.#lost(reason))
  }

  abandon(): void {
    this.#closed = true
    this.#backlog = []
  }

  #flushLater(): void {
    if (this.#flushing || (this.#received.length === 0 && !this.#endReceived)) return
    this.#flushing = true
    this.process.later(0, () => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    while (!this.#closed && !this.#paused && this.#dataListener !== null && this.process.alive) {
      const chunk = this.#received.shift()
      if (chunk === undefined) break
      if (this.#other !== null) this.#other.#consumed(chunk.byteLength)
      this.#dataListener(chunk)
    }
    if (this.#closed || this.#received.length > 0 || !this.#endReceived || this.#endTold || this.#paused) return
    this.#endTold = true
    // Without anybody to decide otherwise, the end of one half ends the other.
    if (this.#endListener === null) this.end()
    else this.#endListener()
    this.#closeWhenBothEnded()
  }

  #closeWhenBothEnded(): void {
    if (this.#closed || !this.#endSent || !this.#endTold) return
    this.#closed = true
    this.#connection.network.forgetWhenOver(this.#connection)
    this.process.later(0, () => this.#tellClose(null))
  }

  #lost(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#backlog = []
    this.#bufferedBytes = 0
    this.#connection.network.forgetWhenOver(this.#connection)
    if (this.#opening !== null) this.#opening.failed(reason)
    else this.#tellClose(new StellwerkError('lost', reason, { where: this.peer, retryable: true }))
  }

  #established(): void {
    const opening = this.#opening
    this.#opening = null
    opening?.established()
  }

  #tellClose(error: Error | null): void {
    if (this.#closeListener === null) this.#untoldClose = { error }
    else this.#closeListener(error)
  }
}

/** A copy of its own: the wire's, and then the reader's. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.byteLength
  const all = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.byteLength
  }
  return all
}
