// One BlockDevice over the legs of a volume: what a change and a read are there, queue.ts says; which legs, in which
// generation, mirror-core.ts.

import type { BlockDevice, BlockExtent, Caps, DeviceState, Io } from '../device.ts'
import { BlockError } from '../device.ts'
import type { Generation } from './generation.ts'
import { type MirrorOptions, MirrorQueue } from './queue.ts'
import type { ScrubFinding, ScrubOptions } from './scrub.ts'

export type { LegDevice } from './legs.ts'
export type { MirrorOptions } from './queue.ts'

/** Resolves when every leg that the generation (or a later one) writes to is open. Rejects only when `signal` aborts. */
export function openMirror(options: MirrorOptions): Promise<MirrorDevice> {
  return new Promise((resolve, reject) => {
    const { signal } = options
    const queue = new MirrorQueue(options, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve(new MirrorDevice(queue))
    })
    const onAbort = (): void => {
      queue.abort('opening was given up')
      reject(new BlockError('ESHUTDOWN', 'none', 'opening the mirror was given up'))
    }
    if (signal?.aborted === true) onAbort()
    else {
      signal?.addEventListener('abort', onAbort)
      queue.start()
    }
  })
}

const NO_FLAGS = {}

export class MirrorDevice implements BlockDevice {
  readonly size: number
  readonly limits: BlockDevice['limits']
  readonly caps: Caps
  readonly blockStatus?: (offset: number, length: number, io: Io) => Promise<BlockExtent[]>
  readonly #queue: MirrorQueue

  /** Made by `openMirror`. */
  constructor(queue: MirrorQueue) {
    this.#queue = queue
    const { size, limits, caps } = queue.shape
    this.size = size
    this.limits = limits
    this.caps = caps
    if (caps.blockStatus) {
      this.blockStatus = (offset, length, io) => queue.request('status', offset, length, null, NO_FLAGS, io)
    }
  }

  /** The one that is served in. */
  get generation(): Generation {
    return this.#queue.generation
  }

  /** Served in the newest generation known, with every leg of it there. */
  get settled(): boolean {
    return this.#queue.state === 'up' || this.#queue.state === 'slow'
  }

  /** When a request was made last; copying does not count. */
  get lastRequestAt(): number {
    return this.#queue.lastRequestAt
  }

  follow(generation: Generation): void {
    this.#queue.follow(generation)
  }

  /** For displays: what each leg is, and why it is away. */
  legs(): { leg: string; role: string; state: DeviceState; why: string }[] {
    return this.#queue.describeLegs()
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#queue.request('read', offset, length, null, NO_FLAGS, io)
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    let length = 0
    for (let i = 0; i < data.length; i += 1) length += data[i]!.length
    return this.#queue.request('write', offset, length, data, flags, io)
  }

  flush(io: Io): Promise<void> {
    return this.#queue.request('flush', 0, 0, null, NO_FLAGS, io)
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    return this.#queue.request('zero', offset, length, null, flags, io)
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#queue.request('trim', offset, length, null, flags, io)
  }

  /**
   * Copies a range from an in-sync leg to every other that is written to, with the range to itself. What one of them cannot read is
   * taken from another, and written anew there; gives the blocks of 4 KiB that none can. Rejects when it could not be written, or
   * the generation is another meanwhile (`generation-changed`). `mayWrite` is asked in the turn in
   * which what was read is written; false: it is not, and the copy rejects with `ESHUTDOWN`.
   */
  copy(offset: number, length: number, io: Io, mayWrite: () => boolean = () => true): Promise<readonly number[]> {
    return this.#queue.copy(offset, length, io, mayWrite)
  }

  /**
   * Compares a range on all in-sync legs, with the range to itself (scrub.ts). Rejects with `generation-changed` when the
   * legs are others meanwhile.
   */
  scrub(offset: number, length: number, options: ScrubOptions, io: Io): Promise<ScrubFinding[]> {
    return this.#queue.scrub(offset, length, options, io)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#queue.onState(listener)
  }

  close(): Promise<void> {
    return this.#queue.close()
  }

  abort(reason: string): void {
    this.#queue.abort(reason)
  }
}
