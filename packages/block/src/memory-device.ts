// A sparse BlockDevice in memory, for tests and scratch disks: a chunk takes memory from the first write to it.
// Nothing in it survives the process; a flush is a formality.

import { assert } from '@stellwerk/runtime/assert.ts'
import {
  type BlockDevice,
  type BlockErrno,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  FULL_CAPS,
  type Io,
  type Limits,
} from './device.ts'

const CHUNK_BYTES = 64 * 1024
/** Extents in one answer to `blockStatus`; the caller asks again for the rest. */
const MAX_EXTENTS = 4096

export interface MemoryDeviceOptions {
  readonly size: number
  readonly limits?: Partial<Limits>
  readonly caps?: Partial<Caps>
  readonly name?: string
}

export class MemoryDevice implements BlockDevice {
  readonly size: number
  readonly limits: Limits
  readonly caps: Caps
  readonly #name: string
  readonly #chunks = new Map<number, Uint8Array>()
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  #closed = false

  constructor(options: MemoryDeviceOptions) {
    this.size = options.size
    this.limits = { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024, ...options.limits }
    this.caps = { ...FULL_CAPS, ...options.caps }
    this.#name = options.name ?? 'memory'
    assert(this.size % this.limits.minimum === 0, 'a device ends on a block')
  }

  /** Bytes of memory its contents take. */
  get allocatedBytes(): number {
    return this.#chunks.size * CHUNK_BYTES
  }

  async read(offset: number, length: number, _io: Io): Promise<Uint8Array[]> {
    this.#check(offset, length, true)
    const parts: Uint8Array[] = []
    this.#each(offset, length, (chunk, start, end) => {
      const held = this.#chunks.get(chunk)
      // Copies: what a reader holds must not change under a later write.
      parts.push(held === undefined ? new Uint8Array(end - start) : held.slice(start, end))
    })
    return parts
  }

  async write(offset: number, data: readonly Uint8Array[], _flags: { readonly fua?: true }, _io: Io): Promise<void> {
    let length = 0
    for (const part of data) length += part.length
    this.#checkWrite(offset, length, true)
    let at = offset
    for (const part of data) {
      let taken = 0
      this.#each(at, part.length, (chunk, start, end) => {
        this.#chunk(chunk).set(part.subarray(taken, taken + end - start), start)
        taken += end - start
      })
      at += part.length
    }
  }

  async flush(_io: Io): Promise<void> {
    this.#open()
    if (!this.caps.flush) throw this.#error('ENOTSUP', 'no flush')
  }

  async zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    _io: Io,
  ): Promise<void> {
    this.#checkWrite(offset, length, false)
    if (!this.caps.zero) throw this.#error('ENOTSUP', 'no zero')
    if (flags.fast === true && !this.caps.fastZero) throw this.#error('ENOTSUP', 'no fast zero')
    this.#clear(offset, length, flags.noHole === true)
  }

  async trim(offset: number, length: number, _flags: { readonly fua?: true }, _io: Io): Promise<void> {
    this.#checkWrite(offset, length, false)
    if (!this.caps.trim) throw this.#error('ENOTSUP', 'no trim')
    this.#clear(offset, length, false)
  }

  async blockStatus(offset: number, length: number, _io: Io): Promise<BlockExtent[]> {
    this.#check(offset, length, false)
    if (length === 0) throw this.#error('EINVAL', 'the status of no bytes')
    const extents: { length: number; hole: boolean; zero: boolean }[] = []
    for (let at = offset; at < offset + length && extents.length < MAX_EXTENTS; ) {
      const chunk = Math.floor(at / CHUNK_BYTES)
      const size = Math.min((chunk + 1) * CHUNK_BYTES, offset + length) - at
      const hole = !this.#chunks.has(chunk)
      const last = extents.at(-1)
      if (last !== undefined && last.hole === hole) last.length += size
      else extents.push({ length: size, hole, zero: hole })
      at += size
    }
    return extents
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const listener of this.#listeners) listener('closed', 'closed in order')
  }

  #clear(offset: number, length: number, keep: boolean): void {
    this.#each(offset, length, (chunk, start, end) => {
      if (keep) this.#chunk(chunk).fill(0, start, end)
      else if (end - start === CHUNK_BYTES) this.#chunks.delete(chunk)
      else this.#chunks.get(chunk)?.fill(0, start, end)
    })
  }

  #chunk(index: number): Uint8Array {
    let chunk = this.#chunks.get(index)
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK_BYTES)
      this.#chunks.set(index, chunk)
    }
    return chunk
  }

  #each(offset: number, length: number, f: (chunk: number, start: number, end: number) => void): void {
    for (let at = offset; at < offset + length; ) {
      const chunk = Math.floor(at / CHUNK_BYTES)
      const start = at - chunk * CHUNK_BYTES
      const end = Math.min(CHUNK_BYTES, start + offset + length - at)
      f(chunk, start, end)
      at += end - start
    }
  }

  #open(): void {
    if (this.#closed) throw this.#error('ESHUTDOWN', 'the device is closed')
  }

  #checkWrite(offset: number, length: number, transfer: boolean): void {
    this.#check(offset, length, transfer)
    if (this.caps.readOnly) throw this.#error('EPERM', 'the device is read-only')
  }

  #check(offset: number, length: number, transfer: boolean): void {
    this.#open()
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw this.#error('EINVAL', `${length} bytes at ${offset} is no range`)
    }
    if (length > this.size - offset) {
      throw this.#error('EINVAL', `${length} bytes at ${offset} reach past the end at ${this.size}`)
    }
    if (offset % this.limits.minimum !== 0 || length % this.limits.minimum !== 0) {
      throw this.#error('EINVAL', `${length} bytes at ${offset} are not aligned to ${this.limits.minimum}`)
    }
    if (transfer && length > this.limits.maximum) {
      throw this.#error('EINVAL', `${length} bytes are more than the maximum of ${this.limits.maximum}`)
    }
  }

  #error(errno: BlockErrno, message: string): BlockError {
    return new BlockError(errno, 'none', message, { where: this.#name })
  }
}
