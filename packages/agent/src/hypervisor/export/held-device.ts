// The disk under an export: each request waits for the right to run before it goes down, and its answer before it goes up.
// What waits is bounded by what the NBD server takes from its connections.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Io,
  type Limits,
} from '@stellwerk/block/device.ts'

export class HeldDevice implements BlockDevice {
  readonly limits: Limits
  readonly caps: Caps
  readonly #disk: BlockDevice
  readonly #mayPass: () => boolean
  #waiting: (() => void)[] = []
  #refused = false

  /** `mayPass` is asked at each passage; after it said no, `release` tells when to ask again. */
  constructor(disk: BlockDevice, mayPass: () => boolean) {
    this.#disk = disk
    this.#mayPass = mayPass
    this.limits = disk.limits
    this.caps = disk.caps
  }

  get size(): number {
    return this.#disk.size
  }

  release(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }

  /** From now on nothing passes, and what waits is refused. */
  refuse(): void {
    this.#refused = true
    this.release()
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#pass(() => this.#disk.read(offset, length, io))
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#pass(() => this.#disk.write(offset, data, flags, io))
  }

  flush(io: Io): Promise<void> {
    return this.#pass(() => this.#disk.flush(io))
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    return this.#pass(() => this.#disk.zero(offset, length, flags, io))
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#pass(() => this.#disk.trim(offset, length, flags, io))
  }

  async blockStatus(offset: number, length: number, io: Io): Promise<BlockExtent[]> {
    const disk = this.#disk
    if (disk.blockStatus === undefined) return [{ length, hole: false, zero: false }]
    return this.#pass(() => disk.blockStatus!(offset, length, io))
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#disk.onState(listener)
  }

  /** The disk is its opener's. */
  async close(): Promise<void> {
    this.refuse()
  }

  async #pass<T>(request: () => Promise<T>): Promise<T> {
    while (!this.#mayGo('none')) await this.#released()
    const answer = await request()
    // It took effect; but whoever may not run may not be heard either.
    while (!this.#mayGo('unknown')) await this.#released()
    return answer
  }

  #mayGo(outcome: 'none' | 'unknown'): boolean {
    if (this.#refused) throw new BlockError('ESHUTDOWN', outcome, 'the export has ended')
    return this.#mayPass()
  }

  #released(): Promise<void> {
    return new Promise(resolve => {
      this.#waiting.push(resolve)
    })
  }
}
