// A disk between a guest and its storage, each of whose requests passes one gate. What the gate does is the heirs' affair.

import type { BlockDevice, BlockExtent, Caps, DeviceState, Io, Limits } from '@stellwerk/block/device.ts'

export abstract class PassingDevice implements BlockDevice {
  readonly limits: Limits
  readonly caps: Caps
  protected disk: BlockDevice

  constructor(disk: BlockDevice) {
    this.disk = disk
    this.limits = disk.limits
    this.caps = disk.caps
  }

  /** Lets the request down, and its answer up, when and if they may. */
  protected abstract pass<T>(request: () => Promise<T>): Promise<T>

  /** From now on nothing passes. The disk itself is its opener's. */
  abstract close(): Promise<void>

  get size(): number {
    return this.disk.size
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.pass(() => this.disk.read(offset, length, io))
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.pass(() => this.disk.write(offset, data, flags, io))
  }

  flush(io: Io): Promise<void> {
    return this.pass(() => this.disk.flush(io))
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    return this.pass(() => this.disk.zero(offset, length, flags, io))
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.pass(() => this.disk.trim(offset, length, flags, io))
  }

  async blockStatus(offset: number, length: number, io: Io): Promise<BlockExtent[]> {
    const { disk } = this
    if (disk.blockStatus === undefined) return [{ length, hole: false, zero: false }]
    return this.pass(() => disk.blockStatus!(offset, length, io))
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.disk.onState(listener)
  }
}
