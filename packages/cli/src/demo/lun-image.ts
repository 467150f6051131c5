// A LUN's data file as a disk that can be read and nothing else: for looking at what a storage subsystem left, once it
// has ended.

import { type BlockDevice, BlockError, type Caps, type DeviceState, type Limits } from '@stellwerk/block/device.ts'
import type { File, Files } from '@stellwerk/runtime/environment.ts'
import { LUN_CAPS, LUN_LIMITS } from '@stellwerk/storage/lun/lun.ts'

export class LunImage implements BlockDevice {
  readonly size: number
  readonly limits: Limits = LUN_LIMITS
  readonly caps: Caps = { ...LUN_CAPS, readOnly: true }
  readonly #file: File

  private constructor(file: File, size: number) {
    this.#file = file
    this.size = size
  }

  static async open(files: Files, path: string): Promise<LunImage> {
    const file = await files.open(path)
    return new LunImage(file, await file.size())
  }

  async read(offset: number, length: number): Promise<Uint8Array[]> {
    return [await this.#file.read(offset, length)]
  }

  write(): Promise<void> {
    return this.#refuse()
  }

  flush(): Promise<void> {
    return this.#refuse()
  }

  zero(): Promise<void> {
    return this.#refuse()
  }

  trim(): Promise<void> {
    return this.#refuse()
  }

  onState(_listener: (state: DeviceState, reason: string) => void): void {
    // It never changes.
  }

  close(): Promise<void> {
    return this.#file.close()
  }

  #refuse(): Promise<never> {
    return Promise.reject(new BlockError('EPERM', 'none', 'this image is only read'))
  }
}
