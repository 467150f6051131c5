// An open file of a simulated process: what its operations do when the device is done with them, when it fails, and when the
// process or the power is gone in between.

import type { File } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { totalLength } from '../parts.ts'
import type { DiskWork, SimDisk } from './disk.ts'
import type { SimProcess } from './process.ts'
import type { SimRandom } from './random.ts'
import { PAGE_BYTES, SECTOR_BYTES, type SparseFile } from './sparse-file.ts'

type Work<T> = Omit<DiskWork<T>, 'path'>

export class SimFile implements File {
  readonly #process: SimProcess
  readonly #disk: SimDisk
  readonly #path: string
  readonly #file: SparseFile
  #open = true
  /** Set by the first failed sync and never cleared: the kernel reports lost pages once and forgets them. */
  #failure: unknown = null
  #operations = 0
  #idle: (() => void) | null = null

  constructor(process: SimProcess, disk: SimDisk, path: string, file: SparseFile) {
    this.#process = process
    this.#disk = disk
    this.#path = path
    this.#file = file
  }

  size(): Promise<number> {
    return this.#run({ operation: 'open', apply: () => this.#file.size })
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    return this.#run({
      operation: 'read',
      offset,
      length,
      apply: misdirect => this.#file.read(Math.max(0, offset + misdirect), length),
    })
  }

  async write(offset: number, data: readonly Uint8Array[], options?: { readonly durable?: boolean }): Promise<void> {
    const durable = options?.durable === true
    if (durable) this.#refuseAfterFailure()
    const length = totalLength(data)
    const write = this.#run<void>({
      operation: 'write',
      offset,
      length,
      durable,
      apply: misdirect => {
        const at = Math.max(0, offset + misdirect)
        this.#disk.reserve(this.#file.pagesToAdd(at, length) * PAGE_BYTES, this.#path)
        this.#put(at, data, durable)
      },
      ignored: () => undefined,
      interrupted: random => this.#putSome(offset, data, durable, random),
    })
    await (durable ? this.#remembering(write) : write)
  }

  async sync(): Promise<void> {
    this.#refuseAfterFailure()
    // A dead process's call must not even mark the file. What is written from here on is not covered.
    const token = this.#process.alive && this.#open ? this.#file.beginSync() : null
    await this.#remembering(
      this.#run<void>({
        operation: 'sync',
        length: Number.MAX_SAFE_INTEGER,
        apply: () => {
          if (token === null || this.#file.endSync(token, true)) return
          throw new StellwerkError('EIO', `EIO: a sync failed meanwhile, ${this.#path}`, { where: this.#process.name })
        },
        failed: () => {
          if (token !== null) this.#file.endSync(token, false)
        },
        // A lying device: what it calls synced stays unsynced.
        ignored: () => undefined,
      }),
    )
  }

  punch(offset: number, length: number): Promise<void> {
    return this.#change('punch', offset, length, () => this.#file.punch(offset, length))
  }

  truncate(size: number): Promise<void> {
    return this.#change('truncate', size, Number.MAX_SAFE_INTEGER, () => this.#file.truncate(size))
  }

  /** Waits for what is in flight. */
  async close(): Promise<void> {
    this.#open = false
    if (this.#operations === 0) return
    await new Promise<void>(resolve => {
      this.#idle = resolve
    })
  }

  #change(operation: 'punch' | 'truncate', offset: number, length: number, change: () => void): Promise<void> {
    return this.#run({
      operation,
      offset,
      length,
      apply: change,
      ignored: () => undefined,
      interrupted: random => {
        if (random.chance(0.5)) change()
      },
    })
  }

  async #run<T>(work: Work<T>): Promise<T> {
    if (!this.#open) throw new StellwerkError('EBADF', 'the file is closed', { where: this.#path })
    this.#operations++
    try {
      return await this.#disk.run(this.#process, { ...work, path: this.#path })
    } finally {
      this.#operations--
      if (this.#operations === 0) this.#idle?.()
    }
  }

  async #remembering(work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (error) {
      this.#failure ??= error
      throw error
    }
  }

  #refuseAfterFailure(): void {
    if (this.#failure !== null) throw this.#failure
  }

  #put(at: number, parts: readonly Uint8Array[], durable: boolean): void {
    if (durable) this.#file.writeDurable(at, parts)
    else this.#file.write(at, parts)
  }

  /** Nothing, everything or some sectors: they land in any order, each as a whole. */
  #putSome(offset: number, data: readonly Uint8Array[], durable: boolean, random: SimRandom): void {
    const choice = random.int(3)
    if (choice === 0) return
    if (choice === 1) {
      this.#put(offset, data, durable)
      return
    }
    const all = joined(data)
    for (let at = 0; at < all.byteLength; ) {
      const end = Math.min(all.byteLength, at + SECTOR_BYTES - ((offset + at) % SECTOR_BYTES))
      if (random.chance(0.5)) this.#put(offset + at, [all.subarray(at, end)], durable)
      at = end
    }
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(totalLength(parts))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.byteLength
  }
  return all
}
