// What takes a range of a mirror for itself, with nothing in flight there and nothing let in: the copier, the scrub, and the repair of
// what a leg could not read.

import { canary } from '@stellwerk/runtime/canary.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { BlockError, type Io, isUnreadable } from '../device.ts'
import { describeGeneration, type Generation } from './generation.ts'
import type { Leg, MirrorLegs } from './legs.ts'
import type { MirrorOptions } from './queue.ts'
import type { RangeLocks } from './range-locks.ts'
import type { MirrorRequest } from './request.ts'
import { type ScrubFinding, type ScrubOptions, scrubLegs } from './scrub.ts'

/** In pieces of this length what cannot be read is found. */
const COPY_BLOCK_BYTES = 4096

export interface OwnRangesHost {
  readonly legs: MirrorLegs
  readonly locks: RangeLocks
  readonly options: MirrorOptions
  readonly requests: readonly MirrorRequest[]
  /** Why nothing goes on any more; null: it does. */
  readonly dead: string | null
  readonly generation: Generation
  /** The best in-sync leg but those whose bits are given; null: there is none. */
  readable(not: number): Leg | null
}

export class OwnRanges {
  readonly #host: OwnRangesHost

  constructor(host: OwnRangesHost) {
    this.#host = host
  }

  get #legs(): MirrorLegs {
    return this.#host.legs
  }

  /** Runs with nothing in flight in the range, and nothing let in. */
  async #exclusive<T>(offset: number, length: number, run: () => Promise<T>): Promise<T> {
    const end = offset + length
    for (
      let lock = this.#host.locks.covering(offset, end);
      lock !== null;
      lock = this.#host.locks.covering(offset, end)
    ) {
      await this.#host.locks.over(lock)
    }
    let ahead = 0
    for (const request of this.#host.requests) {
      if (request.isChange && request.offset < end && offset < request.offset + request.length) ahead += 1
    }
    const lock = this.#host.locks.take(offset, end, ahead)
    try {
      if (!canary('resync-without-range-lock')) await this.#host.locks.granted(lock)
      if (this.#host.dead !== null) throw new BlockError('ESHUTDOWN', 'none', this.#host.dead)
      return await run()
    } finally {
      this.#host.locks.release(lock)
    }
  }

  copy(offset: number, length: number, io: Io, mayWrite: () => boolean): Promise<readonly number[]> {
    return this.#exclusive(offset, length, async () => {
      const generation = this.#host.generation.number
      const stands = (): void => {
        if (this.#host.generation.number !== generation || this.#legs.switching) throw changed(this.#legs.target)
      }
      const unreadable: number[] = []
      const step = Math.min(length, this.#legs.shape?.limits.maximum ?? length)
      for (let at = offset; at < offset + length; at += step) {
        const bytes = Math.min(step, offset + length - at)
        stands()
        // Of the only leg nothing is copied: it is as it is, whether it can be read or not.
        if (this.#legs.open.length < 2) return unreadable
        if (await this.#copyFrom(this.#copySource(), at, bytes, io, stands, mayWrite)) continue
        for (let block = at; block < at + bytes; block += COPY_BLOCK_BYTES) {
          if (!(await this.#copyBlock(block, io, stands, mayWrite))) unreadable.push(block)
        }
      }
      return unreadable
    })
  }

  async #copyBlock(at: number, io: Io, stands: () => void, mayWrite: () => boolean): Promise<boolean> {
    this.#host.options.onRewrite?.(at, COPY_BLOCK_BYTES)
    let failed = 0
    for (let source = this.#host.readable(failed); source !== null; source = this.#host.readable(failed)) {
      if (await this.#copyFrom(source, at, COPY_BLOCK_BYTES, io, stands, mayWrite)) return true
      failed |= source.bit
    }
    return false
  }

  /** False: it cannot be read there. */
  async #copyFrom(
    source: Leg | null,
    offset: number,
    length: number,
    io: Io,
    stands: () => void,
    mayWrite: () => boolean,
  ): Promise<boolean> {
    if (source?.device == null) throw changed(this.#legs.target)
    let data: Uint8Array[]
    try {
      data = await source.device.read(offset, length, io)
    } catch (error) {
      if (isUnreadable(error)) return false
      throw error
    }
    stands()
    if (!mayWrite()) throw new BlockError('ESHUTDOWN', 'none', 'what was read is not to be copied any more')
    for (const leg of this.#legs.open) {
      if (leg === source) continue
      const { device } = leg
      if (device === null) throw changed(this.#legs.target)
      await this.#inTime(leg, 'a copy was not answered', () => device.write(offset, data, { fua: true }, io))
    }
    return true
  }

  /** Nobody else waits for a leg in whose hands the range is: requests for it are not let in. */
  async #inTime<T>(leg: Leg, what: string, work: () => Promise<T>): Promise<T> {
    const { deadlineMs } = this.#legs
    const late = this.#host.options.timers.after(deadlineMs, () =>
      this.#legs.trouble(leg, `${what} within ${deadlineMs} ms: ${leg.why}`),
    )
    try {
      return await work()
    } finally {
      late.cancel()
    }
  }

  #copySource(): Leg | null {
    const right = this.#host.readable(0)
    if (!canary('resync-wrong-direction')) return right
    return this.#legs.open.find(leg => leg !== right && leg.device !== null) ?? right
  }

  scrub(offset: number, length: number, options: ScrubOptions, io: Io): Promise<ScrubFinding[]> {
    return this.#exclusive(offset, length, async () => {
      const generation = this.#host.generation.number
      const stands = (): void => {
        if (this.#host.generation.number !== generation || this.#legs.switching) throw changed(this.#legs.target)
      }
      stands()
      const legs = this.#legs.open.filter(leg => (this.#legs.readable & leg.bit) !== 0)
      const { deadlineMs } = this.#legs
      const trouble = (id: string, why: string): void => this.#legs.trouble(legs.find(leg => leg.id === id)!, why)
      const devices = legs.map(({ id, device }) => {
        if (device === null) throw changed(this.#legs.target)
        return { id, device }
      })
      const late = (id: string): void => trouble(id, `a scrub was not answered within ${deadlineMs} ms`)
      const patience = { timers: this.#host.options.timers, deadlineMs, late }
      const rewriting = this.#host.options.onRewrite ?? (() => undefined)
      const host = { io, stands, rewriting, failed: trouble, patience }
      const found = await scrubLegs(devices, offset, length, options, host)
      stands()
      return found
    })
  }

  /** What one leg could not read the other could: it is written there anew. A leg that can't take it is in trouble. */
  async repair(leg: Leg, { offset, length, io }: MirrorRequest): Promise<void> {
    const { onRewrite } = this.#host.options
    const what = `it could not read ${length} bytes at ${offset}, nor take them anew`
    const rewrite = () =>
      this.#exclusive(offset, length, async () => {
        const source = this.#host.readable(leg.bit)
        if (source?.device == null || leg.device === null || this.#legs.switching) return
        const data = await source.device.read(offset, length, { ...io, deadlineAt: null })
        if (leg.device === null || this.#legs.switching) return
        onRewrite?.(offset, length)
        await leg.device.write(offset, data, { fua: true }, { ...io, deadlineAt: null })
      })
    try {
      await this.#inTime(leg, what, rewrite)
    } catch (error) {
      if (error instanceof BlockError && error.errno === 'ESHUTDOWN') return
      this.#legs.trouble(leg, `${what}: ${errorMessage(error)}`)
    }
  }
}

export function changed(target: Generation): BlockError {
  return new BlockError('EIO', 'none', `generation-changed: ${describeGeneration(target)}`, { retryable: true })
}
