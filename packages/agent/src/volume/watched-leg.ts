// A leg as its volume's owner uses it, watched: since when a request waits there, and what it answered with an error. The
// owner waits for all legs with each write; which of them it waits for, only this tells.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Io,
  isUnreadable,
  type Limits,
} from '@stellwerk/block/device.ts'
import { SPARED_ORIGIN } from '@stellwerk/csv/format/device-io.ts'
import { SCRUB_ORIGIN } from '@stellwerk/csv/mirror/owner-scrub.ts'
import type { Clock } from '@stellwerk/runtime/environment.ts'

type Counts = 'always' | 'unless-unreadable' | 'never'
/** What these cannot read they take from another leg, or write anew: only if that fails too is it the leg's failure. */
const COUNTS: { readonly [origin: string]: Counts } = { [SCRUB_ORIGIN]: 'never', [SPARED_ORIGIN]: 'unless-unreadable' }
const PROBE_IO: Io = { origin: 'leg-watch', deadlineAt: null }

export class WatchedLeg implements BlockDevice {
  readonly size: number
  readonly limits: Limits
  readonly caps: Caps
  readonly blockStatus?: (offset: number, length: number, io: Io) => Promise<BlockExtent[]>
  readonly #device: BlockDevice
  readonly #clock: Clock
  readonly #waiting = new Map<number, number>()
  #next = 0
  #answeredAt = Number.NEGATIVE_INFINITY
  /** The first error that was no refusal of the request itself. */
  failure: string | null = null
  #failedSince = 0

  constructor(device: BlockDevice, clock: Clock) {
    this.#device = device
    this.#clock = clock
    this.size = device.size
    this.limits = device.limits
    this.caps = device.caps
    if (device.blockStatus !== undefined) {
      this.blockStatus = (offset, length, io) => this.#watch(device.blockStatus!(offset, length, io))
    }
  }

  /** How long the oldest request has been waiting; 0: none is. */
  get waitsMs(): number {
    const [oldest] = this.#waiting.values()
    return oldest === undefined ? 0 : this.#clock.now() - oldest
  }

  /** When the request was begun that failed, else the one that has been waiting longest; now, if there is none. */
  get troubledSince(): number {
    return this.failure === null ? this.#clock.now() - this.waitsMs : this.#failedSince
  }

  /**
   * Whether it has answered since, which is how to tell a leg that is lost from a fault that all of them have. One that has
   * nothing to do is asked something: to be called again.
   */
  hasServedSince(at: number): boolean {
    if (this.failure !== null) return false
    if (this.#answeredAt >= at) return true
    // An error is noted as any request's.
    if (this.#waiting.size === 0) this.read(0, this.limits.minimum, PROBE_IO).catch(() => undefined)
    return false
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#watch(this.#device.read(offset, length, io), COUNTS[io.origin] ?? 'always')
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#watch(this.#device.write(offset, data, flags, io))
  }

  flush(io: Io): Promise<void> {
    return this.#watch(this.#device.flush(io))
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    return this.#watch(this.#device.zero(offset, length, flags, io))
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#watch(this.#device.trim(offset, length, flags, io))
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#device.onState(listener)
  }

  close(): Promise<void> {
    return this.#device.close()
  }

  async #watch<T>(request: Promise<T>, failure: Counts = 'always'): Promise<T> {
    const number = this.#next
    const since = this.#clock.now()
    this.#next += 1
    this.#waiting.set(number, since)
    try {
      const answer = await request
      this.#answeredAt = this.#clock.now()
      return answer
    } catch (error) {
      const refused = error instanceof BlockError && (error.errno === 'EINVAL' || error.errno === 'ENOTSUP')
      const over = error instanceof BlockError && error.errno === 'ESHUTDOWN'
      const isSpot = isUnreadable(error)
      const counts = failure === 'always' || (failure === 'unless-unreadable' && !isSpot)
      if (counts && !refused && !over && this.failure === null) {
        this.failure = error instanceof Error ? error.message : String(error)
        this.#failedSince = since
      }
      throw error
    } finally {
      this.#waiting.delete(number)
    }
  }
}
