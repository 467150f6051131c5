// A byte stream under fault rules.

import type { ByteStream } from '../../environment.ts'
import { totalLength } from '../../parts.ts'
import { type SocketStream, STREAM_HIGH_WATER_BYTES } from '../byte-stream.ts'
import { brokenError, type NetworkFaults, type Shaped, type Way } from './network-faults.ts'
import { type Judged, ShapedPipe } from './shaped-pipe.ts'

type Leaving = { readonly parts: readonly Uint8Array[] } | 'end'
type Arriving = { readonly chunk: Uint8Array } | 'end' | { readonly closed: Error | null }

type CloseState =
  | { readonly kind: 'open' }
  | { readonly kind: 'untold'; readonly error: Error | null }
  | { readonly kind: 'told' }

export class ShapedStream implements ByteStream, Shaped {
  readonly way: Way
  readonly #below: SocketStream
  readonly #faults: NetworkFaults
  readonly #out: ShapedPipe<Leaving>
  readonly #in: ShapedPipe<Arriving>
  #state: CloseState = { kind: 'open' }
  #full = false
  #ended = false
  /** By the user; and, so that what is held stays bounded, by this. */
  #paused = false
  #choked = false
  /** Arrived while the user had paused. */
  #held: Arriving[] = []
  #drain: (() => void) | null = null
  #data: ((chunk: Uint8Array) => void) | null = null
  #end: (() => void) | null = null
  #close: ((error: Error | null) => void) | null = null

  constructor(below: SocketStream, way: Way, faults: NetworkFaults) {
    this.way = way
    this.#below = below
    this.#faults = faults
    const { random } = faults
    const onBroken = (reason: string): void => this.broken('ECONNRESET', reason)
    this.#out = new ShapedPipe({ random, onBroken, deliver: item => this.#leave(item) })
    this.#in = new ShapedPipe({ random, onBroken, deliver: item => this.#arrive(item) })
    below.onDrain(() => this.#drained())
    below.onEnd(() => this.#in.push('end', 0))
    below.onClose(error => this.#in.push({ closed: error }, 0))
    faults.added(this)
  }

  get peer(): string {
    return this.#below.peer
  }

  get bufferedBytes(): number {
    return this.#below.bufferedBytes + this.#out.bytes
  }

  write(parts: readonly Uint8Array[]): boolean {
    if (this.#state.kind !== 'open') return false
    const bytes = totalLength(parts)
    this.#out.push({ parts }, bytes)
    if (this.bufferedBytes >= STREAM_HIGH_WATER_BYTES) this.#full = true
    return !this.#full
  }

  onDrain(f: () => void): void {
    this.#drain = f
  }

  onData(f: (chunk: Uint8Array) => void): void {
    const isFirst = this.#data === null
    this.#data = f
    if (!isFirst) return
    this.#below.onData(chunk => {
      this.#in.push({ chunk }, chunk.byteLength)
      if (this.#in.bytes < STREAM_HIGH_WATER_BYTES || this.#choked) return
      this.#choked = true
      this.#below.pause()
    })
  }

  pause(): void {
    this.#paused = true
    this.#below.pause()
  }

  resume(): void {
    this.#paused = false
    while (this.#held.length > 0 && !this.#paused) this.#arrive(this.#held.shift()!)
    if (!this.#paused && !this.#choked) this.#below.resume()
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
    if (this.#state.kind === 'open') this.#out.push('end', 0)
  }

  destroy(): void {
    this.#state = { kind: 'told' }
    this.#letGo()
  }

  reconsider(there: Judged, back: Judged): void {
    this.#out.judge(there)
    this.#in.judge(back)
  }

  broken(code: 'ECONNRESET' | 'ETIMEDOUT', reason: string): void {
    this.#letGo()
    this.#closed(brokenError(code, reason, this.peer))
  }

  #letGo(): void {
    this.#out.clear()
    this.#in.clear()
    this.#held = []
    this.#faults.removed(this)
    this.#below.destroy()
  }

  #leave(item: Leaving): void {
    if (item === 'end') this.#below.end()
    else this.#below.write(item.parts)
    this.#drained()
  }

  #arrive(item: Arriving): void {
    if (this.#paused) {
      this.#held.push(item)
      return
    }
    if (item === 'end') {
      this.#ended = true
      this.#end?.()
      // Without anybody to decide otherwise, the end of one half ends the other.
      if (this.#end === null) this.end()
    } else if ('closed' in item) {
      this.#faults.removed(this)
      this.#out.clear()
      this.#closed(item.closed)
    } else if (this.#state.kind === 'open') this.#data?.(item.chunk)
    if (!this.#choked || !this.#in.isEmpty) return
    this.#choked = false
    if (!this.#paused) this.#below.resume()
  }

  #drained(): void {
    if (!this.#full || this.bufferedBytes > 0) return
    this.#full = false
    this.#drain?.()
  }

  #closed(error: Error | null): void {
    if (this.#state.kind !== 'open') return
    this.#state = { kind: 'untold', error }
    this.#tellClosed()
  }

  #tellClosed(): void {
    const state = this.#state
    if (state.kind !== 'untold' || this.#close === null) return
    this.#state = { kind: 'told' }
    this.#close(state.error)
  }
}
