// For tests: two byte streams joined in memory, delivered by microtasks, cut into pieces as the test says. Deterministic.

import type { ByteStream, Timers } from '@stellwerk/runtime/environment.ts'

/** How many of `available` bytes come in the next chunk (at least 1). */
export type Cutter = (available: number) => number

export const WHOLE: Cutter = available => available

const HIGH_WATER_BYTES = 1024 * 1024

export class PairedStream implements ByteStream {
  readonly peer: string
  other!: PairedStream
  destroyed = false
  paused = false
  writes = 0
  readonly #cut: Cutter
  readonly #inbox: Uint8Array[] = []
  #inboxBytes = 0
  #endArrived = false
  #ended = false
  #scheduled = false
  #data: ((chunk: Uint8Array) => void) | null = null
  #drain: (() => void) | null = null
  #end: (() => void) | null = null
  #close: ((error: Error | null) => void) | null = null
  #blocked = false

  constructor(peer: string, cut: Cutter) {
    this.peer = peer
    this.#cut = cut
  }

  get bufferedBytes(): number {
    return this.other.#inboxBytes
  }

  write(parts: readonly Uint8Array[]): boolean {
    if (this.destroyed || this.#ended) return false
    this.writes += 1
    this.other.#receive(parts)
    this.#blocked = this.bufferedBytes >= HIGH_WATER_BYTES
    return !this.#blocked
  }

  onDrain(f: () => void): void {
    this.#drain = f
  }

  onData(f: (chunk: Uint8Array) => void): void {
    this.#data = f
    this.#schedule()
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    this.#schedule()
  }

  onEnd(f: () => void): void {
    this.#end = f
  }

  onClose(f: (error: Error | null) => void): void {
    this.#close = f
  }

  end(): void {
    if (this.#ended || this.destroyed) return
    this.#ended = true
    this.other.#endArrived = true
    this.other.#schedule()
  }

  destroy(): void {
    this.#drop(null, false)
    queueMicrotask(() => this.other.#drop(null, true))
  }

  /** The network breaks: both sides learn it. */
  reset(): void {
    this.#drop(new Error('connection reset'), true)
    this.other.#drop(new Error('connection reset'), true)
  }

  #drop(error: Error | null, tell: boolean): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#inbox.length = 0
    this.#inboxBytes = 0
    if (tell) this.#close?.(error)
  }

  #receive(parts: readonly Uint8Array[]): void {
    if (this.destroyed) return
    for (const part of parts) {
      // What is on the wire must not change with the sender's buffers.
      if (part.length > 0) this.#inbox.push(part.slice())
      this.#inboxBytes += part.length
    }
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    if (this.destroyed || this.paused || this.#data === null) return
    const next = this.#inbox[0]
    if (next !== undefined) {
      const take = Math.max(1, Math.min(next.length, this.#cut(next.length)))
      if (take === next.length) this.#inbox.shift()
      else this.#inbox[0] = next.subarray(take)
      this.#inboxBytes -= take
      this.#data(next.subarray(0, take))
      this.other.#unblock(this.#inboxBytes)
      this.#schedule()
    } else if (this.#endArrived) {
      this.#endArrived = false
      this.#end?.()
      if (this.#ended) this.#drop(null, true)
    }
  }

  #unblock(left: number): void {
    if (!this.#blocked || left > 0) return
    this.#blocked = false
    this.#drain?.()
  }
}

export function streamPair(cutLeft: Cutter = WHOLE, cutRight: Cutter = WHOLE): [PairedStream, PairedStream] {
  const left = new PairedStream('right', cutLeft)
  const right = new PairedStream('left', cutRight)
  left.other = right
  right.other = left
  return [left, right]
}

/** Timers a test moves by hand. */
export class ManualTimers implements Timers {
  now = 0
  readonly #pending: { at: number; f: () => void }[] = []

  after(delayMs: number, f: () => void): { cancel(): void } {
    const entry = { at: this.now + delayMs, f }
    this.#pending.push(entry)
    return {
      cancel: () => {
        const index = this.#pending.indexOf(entry)
        if (index !== -1) this.#pending.splice(index, 1)
      },
    }
  }

  get count(): number {
    return this.#pending.length
  }

  /** Runs what is due, in order, letting promises settle in between. */
  async advance(ms: number): Promise<void> {
    const until = this.now + ms
    for (;;) {
      const due = this.#pending.filter(entry => entry.at <= until).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#pending.splice(this.#pending.indexOf(due), 1)
      this.now = Math.max(this.now, due.at)
      due.f()
      await settle()
    }
    this.now = until
    await settle()
  }
}

/** Lets all microtasks run out. */
export function settle(): Promise<void> {
  return new Promise(resolve => {
    setImmediate(resolve)
  })
}
