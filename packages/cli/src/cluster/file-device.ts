// A LUN's data file as a block device that is only read: byte n of the file is byte n of the LUN. For looking at volumes of
// a cluster that is down.

import { type BlockDevice, BlockError, type Caps, type Limits } from '@stellwerk/block/device.ts'
import type { File, Files } from '@stellwerk/runtime/environment.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

export class FileDevice implements BlockDevice {
  readonly size: number
  readonly limits: Limits = { minimum: 1, preferred: 4096, maximum: 32 * MIB }
  readonly caps: Caps = {
    readOnly: true,
    flush: true,
    fua: true,
    trim: false,
    zero: false,
    fastZero: false,
    blockStatus: false,
    multiConn: true,
  }
  readonly #file: File

  /** Rejects with `missing-file`. */
  static async open(files: Files, path: string): Promise<FileDevice> {
    const file = await files.open(path)
    return new FileDevice(file, await file.size())
  }

  private constructor(file: File, size: number) {
    this.#file = file
    this.size = size
  }

  async read(offset: number, length: number): Promise<Uint8Array[]> {
    if (offset < 0 || offset + length > this.size) throw new BlockError('EINVAL', 'none', 'a read past the end')
    return [await this.#file.read(offset, length)]
  }

  write(): Promise<void> {
    return refuse()
  }

  zero(): Promise<void> {
    return refuse()
  }

  trim(): Promise<void> {
    return refuse()
  }

  async flush(): Promise<void> {
    // Nothing was written.
  }

  onState(): void {
    // A file has one state.
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

function refuse(): Promise<never> {
  return Promise.reject(new BlockError('EPERM', 'none', 'the file is only looked at'))
}
