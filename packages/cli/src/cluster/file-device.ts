// A LUN's data file as a block device that is only read: byte n of the file is byte n of the LUN. For looking at volumes of
// a cluster that is down.

import type { File, Files } from '@stellwerk/runtime/environment.ts'
import { ReadOnlyDevice } from './read-only-device.ts'

export class FileDevice extends ReadOnlyDevice {
  readonly #file: File

  /** Rejects with `missing-file`. */
  static async open(files: Files, path: string): Promise<FileDevice> {
    const file = await files.open(path)
    return new FileDevice(file, await file.size())
  }

  private constructor(file: File, size: number) {
    super('the file', size, { blockStatus: false })
    this.#file = file
  }

  async read(offset: number, length: number): Promise<Uint8Array[]> {
    this.within(offset, length)
    return [await this.#file.read(offset, length)]
  }

  override close(): Promise<void> {
    return this.#file.close()
  }
}
