// What all devices have in common by which a cluster that is down is looked at: they are read, and nothing else.

import { type BlockDevice, BlockError, type Caps, type Io, type Limits } from '@stellwerk/block/device.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

export abstract class ReadOnlyDevice implements BlockDevice {
  readonly size: number
  readonly limits: Limits = { minimum: 1, preferred: 4096, maximum: 32 * MIB }
  readonly caps: Caps
  readonly #what: string

  /** `what`: for errors, "the file". */
  constructor(what: string, size: number, caps: Pick<Caps, 'blockStatus'>) {
    this.#what = what
    this.size = size
    this.caps = {
      readOnly: true,
      flush: true,
      fua: true,
      trim: false,
      zero: false,
      fastZero: false,
      multiConn: true,
      ...caps,
    }
  }

  abstract read(offset: number, length: number, io: Io): Promise<Uint8Array[]>

  /** Throws EINVAL when the range is not within the device. */
  protected within(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.size) throw new BlockError('EINVAL', 'none', 'a read past the end')
  }

  write(): Promise<void> {
    return this.#refuse()
  }

  zero(): Promise<void> {
    return this.#refuse()
  }

  trim(): Promise<void> {
    return this.#refuse()
  }

  async flush(): Promise<void> {
    // Nothing was written.
  }

  onState(): void {
    // It has one state.
  }

  async close(): Promise<void> {
    // What lies below is its opener's.
  }

  #refuse(): Promise<never> {
    return Promise.reject(new BlockError('EPERM', 'none', `${this.#what} is only looked at`))
  }
}
