// A disk that is not there yet: what a machine that is being received is given. It takes requests once it was bound, which
// is before the machine runs.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Io,
  type Limits,
} from '@stellwerk/block/device.ts'

export class LateDevice implements BlockDevice {
  readonly #size: number
  readonly limits: Limits
  readonly caps: Caps
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  #inner: BlockDevice | null = null

  constructor(size: number, limits: Limits, caps: Caps) {
    this.#size = size
    this.limits = limits
    this.caps = caps
  }

  /** As the owner said when the disk was reserved; then as it is. */
  get size(): number {
    return this.#inner?.size ?? this.#size
  }

  bind(inner: BlockDevice): void {
    this.#inner = inner
    for (const listener of this.#listeners) inner.onState(listener)
  }

  get #device(): BlockDevice {
    if (this.#inner === null) throw new BlockError('ESHUTDOWN', 'none', 'the disk has not been handed over yet')
    return this.#inner
  }

  async read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#device.read(offset, length, io)
  }

  async write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#device.write(offset, data, flags, io)
  }

  async flush(io: Io): Promise<void> {
    return this.#device.flush(io)
  }

  async zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    return this.#device.zero(offset, length, flags, io)
  }

  async trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#device.trim(offset, length, flags, io)
  }

  async blockStatus(offset: number, length: number, io: Io): Promise<BlockExtent[]> {
    const device = this.#device
    if (device.blockStatus !== undefined) return device.blockStatus(offset, length, io)
    return [{ length, hole: false, zero: false }]
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
    this.#inner?.onState(listener)
  }

  async close(): Promise<void> {
    await this.#inner?.close()
  }
}
