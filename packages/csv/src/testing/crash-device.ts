// A device for tests that crashes: what was acknowledged as durable stays, what was not may be there, in part or not at
// all, per 512-byte sector. Sparse, in memory. Counts its writes, so that a test can crash at each of them.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  FULL_CAPS,
  type Io,
  type Limits,
} from '@stellwerk/block/device.ts'

const PAGE = 4096
const SECTOR = 512

/** The bytes, which survive a crash; devices are opened on it. */
export class Platter {
  readonly size: number
  readonly pages = new Map<number, Uint8Array>()

  constructor(size: number) {
    this.size = size
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let at = 0; at < length; ) {
      const page = Math.floor((offset + at) / PAGE)
      const within = (offset + at) % PAGE
      const step = Math.min(PAGE - within, length - at)
      const content = this.pages.get(page)
      if (content !== undefined) bytes.set(content.subarray(within, within + step), at)
      at += step
    }
    return bytes
  }

  write(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const page = Math.floor((offset + at) / PAGE)
      const within = (offset + at) % PAGE
      const step = Math.min(PAGE - within, bytes.length - at)
      let content = this.pages.get(page)
      if (content === undefined) {
        content = new Uint8Array(PAGE)
        this.pages.set(page, content)
      }
      content.set(bytes.subarray(at, at + step), within)
      at += step
    }
  }

  zero(offset: number, length: number): void {
    for (let at = 0; at < length; ) {
      const page = Math.floor((offset + at) / PAGE)
      const within = (offset + at) % PAGE
      const step = Math.min(PAGE - within, length - at)
      if (step === PAGE) this.pages.delete(page)
      else this.pages.get(page)?.fill(0, within, within + step)
      at += step
    }
  }

  copy(): Platter {
    const copy = new Platter(this.size)
    for (const [page, content] of this.pages) copy.pages.set(page, content.slice())
    return copy
  }
}

export interface CrashOptions {
  /** At this write (counted from 1) the device dies: the write lands in part, nothing after it does. */
  readonly crashAt?: number
  /** Uniform in [0, 1): which sectors of unfinished writes land. */
  readonly random?: () => number
  /** Called when it died. */
  readonly onCrash?: () => void
  readonly blockStatus?: boolean
}

interface Unfinished {
  readonly offset: number
  readonly bytes: Uint8Array
}

export class CrashDevice implements BlockDevice {
  readonly limits: Limits = { minimum: SECTOR, preferred: PAGE, maximum: 32 * 1024 * 1024 }
  readonly caps: Caps
  readonly size: number
  readonly platter: Platter
  readonly #options: CrashOptions
  /** Cached: written, read back, not durable. In order. */
  #cache: Unfinished[] = []
  #dead = false
  writes = 0
  reads = 0
  /** Set: writes wait until it is called off; with `holdAt` only those there. */
  hold: Promise<void> | null = null
  holdAt: ((offset: number) => boolean) | null = null
  /** Fails requests as told. */
  refuse: ((op: 'read' | 'write' | 'zero', offset: number, length: number) => BlockError | null) | null = null

  constructor(platter: Platter, options: CrashOptions = {}) {
    this.platter = platter
    this.size = platter.size
    this.#options = options
    this.caps = { ...FULL_CAPS, blockStatus: false }
  }

  async read(offset: number, length: number, _io: Io): Promise<Uint8Array[]> {
    this.#check('read', offset, length)
    this.reads += 1
    const bytes = this.platter.read(offset, length)
    for (const entry of this.#cache) overlay(bytes, offset, entry)
    return [bytes]
  }

  async write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, _io: Io): Promise<void> {
    const bytes = Uint8Array.from(Buffer.concat(data))
    await this.#put('write', offset, bytes, flags.fua === true)
  }

  async zero(offset: number, length: number, flags: { readonly fua?: true }, _io: Io): Promise<void> {
    await this.#put('zero', offset, new Uint8Array(length), flags.fua === true)
  }

  async trim(): Promise<void> {
    this.#check('write', 0, 0)
  }

  async flush(_io: Io): Promise<void> {
    this.#check('write', 0, 0)
    this.#commit()
  }

  blockStatus?(_offset: number, length: number, _io: Io): Promise<BlockExtent[]> {
    return Promise.resolve([{ length, hole: false, zero: false }])
  }

  onState(_listener: (state: DeviceState, reason: string) => void): void {
    // It has only one state that anybody sees.
  }

  async close(): Promise<void> {
    this.#dead = true
  }

  /** Power is gone: of what is not durable some sectors land. */
  crash(): void {
    this.#dead = true
    const random = this.#options.random ?? (() => 0.5)
    for (const { offset, bytes } of this.#cache) {
      for (let at = 0; at < bytes.length; at += SECTOR) {
        if (random() < 0.5) this.platter.write(offset + at, bytes.subarray(at, at + SECTOR))
      }
    }
    this.#cache = []
    this.#options.onCrash?.()
  }

  async #put(op: 'write' | 'zero', offset: number, bytes: Uint8Array, fua: boolean): Promise<void> {
    this.#check(op, offset, bytes.length)
    this.writes += 1
    const entry = { offset, bytes }
    this.#cache.push(entry)
    if (this.writes === this.#options.crashAt) this.crash()
    if (this.hold !== null && (this.holdAt?.(offset) ?? true)) await this.hold
    // A turn later, so that several writes can be under way at the crash.
    await null
    if (this.#dead) return new Promise(() => undefined)
    if (fua) this.#commit(entry)
  }

  /** Makes one write durable, and what it lies upon; without one, all. */
  #commit(only?: Unfinished): void {
    const rest: Unfinished[] = []
    const upTo = only === undefined ? this.#cache.length : this.#cache.indexOf(only)
    for (const [i, entry] of this.#cache.entries()) {
      const covered = only === undefined || entry === only || (i < upTo && overlaps(entry, only))
      if (covered) this.platter.write(entry.offset, entry.bytes)
      else rest.push(entry)
    }
    this.#cache = rest
  }

  #check(op: 'read' | 'write' | 'zero', offset: number, length: number): void {
    if (this.#dead) throw new BlockError('ESHUTDOWN', 'unknown', 'the device has died')
    if (offset % SECTOR !== 0 || length % SECTOR !== 0 || offset + length > this.size) {
      throw new BlockError('EINVAL', 'none', `bad range ${offset}+${length}`)
    }
    const error = this.refuse?.(op, offset, length) ?? null
    if (error !== null) throw error
  }
}

function overlaps(a: Unfinished, b: Unfinished): boolean {
  return a.offset < b.offset + b.bytes.length && b.offset < a.offset + a.bytes.length
}

function overlay(target: Uint8Array, offset: number, entry: Unfinished): void {
  const start = Math.max(offset, entry.offset)
  const end = Math.min(offset + target.length, entry.offset + entry.bytes.length)
  if (start < end) target.set(entry.bytes.subarray(start - entry.offset, end - entry.offset), start - offset)
}
