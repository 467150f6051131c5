// A disk in memory for tests: it takes a while, can be told to hold or to fail requests, and knows what is in flight.

import { type BlockDevice, BlockError, type Caps, type Io, type Limits } from '@stellwerk/block/device.ts'
import type { Timers } from '@stellwerk/runtime/environment.ts'

const LATENCY_MS = 1

export class MemoryDisk implements BlockDevice {
  readonly size: number
  readonly limits: Limits = { minimum: 512, preferred: 4096, maximum: 1 << 20 }
  readonly caps: Caps = {
    readOnly: false,
    flush: true,
    fua: true,
    trim: true,
    zero: true,
    fastZero: false,
    blockStatus: false,
    multiConn: true,
  }
  readonly bytes: Buffer
  inFlight = 0
  /** How many requests of each kind were taken. */
  readonly taken = { read: 0, write: 0, zero: 0, trim: 0, flush: 0 }
  /** While set, this kind of request is refused. */
  failing: 'read' | 'write' | null = null
  readonly #timers: Timers
  #held: (() => void)[] | null = null

  constructor(timers: Timers, size: number) {
    this.#timers = timers
    this.size = size
    this.bytes = Buffer.alloc(size)
  }

  /** Requests taken from now on (and the ones under way) are answered only after `go`. */
  hold(): void {
    this.#held ??= []
  }

  go(): void {
    const held = this.#held ?? []
    this.#held = null
    for (const finish of held) finish()
  }

  read(offset: number, length: number, _io: Io): Promise<Uint8Array[]> {
    return this.#request('read', offset, length, () => {
      const bytes = Buffer.from(this.bytes.subarray(offset, offset + length))
      // Scattered on purpose.
      const cut = Math.min(512, length)
      return cut === length ? [bytes] : [bytes.subarray(0, cut), bytes.subarray(cut)]
    })
  }

  write(offset: number, data: readonly Uint8Array[], _flags: { readonly fua?: true }, _io: Io): Promise<void> {
    const length = data.reduce((sum, part) => sum + part.length, 0)
    return this.#request('write', offset, length, () => {
      let at = offset
      for (const part of data) {
        this.bytes.set(part, at)
        at += part.length
      }
    })
  }

  flush(_io: Io): Promise<void> {
    return this.#request('flush', 0, 0, () => undefined)
  }

  zero(offset: number, length: number, _flags: object, _io: Io): Promise<void> {
    return this.#request('zero', offset, length, () => void this.bytes.fill(0, offset, offset + length))
  }

  trim(offset: number, length: number, _flags: object, _io: Io): Promise<void> {
    return this.#request('trim', offset, length, () => undefined)
  }

  onState(): void {
    // Always up.
  }

  async close(): Promise<void> {
    // Nothing below.
  }

  #request<T>(kind: keyof MemoryDisk['taken'], offset: number, length: number, act: () => T): Promise<T> {
    this.taken[kind]++
    if (offset % 512 !== 0 || length % 512 !== 0 || offset + length > this.size || length > this.limits.maximum) {
      return Promise.reject(new BlockError('EINVAL', 'none', `${kind} of ${length} at ${offset}`))
    }
    this.inFlight++
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        this.inFlight--
        if (this.failing === kind) reject(new BlockError('EIO', 'unknown', `${kind} told to fail`))
        else resolve(act())
      }
      this.#timers.after(LATENCY_MS, () => {
        if (this.#held === null) finish()
        else this.#held.push(finish)
      })
    })
  }
}
