// Requests that are more than one request below: across extents or regions, to extents not there yet, to regions not
// marked yet, overlapping others; zero and trim.

import { type BlockDevice, BlockError, type BlockExtent, type Io } from '@stellwerk/block/device.ts'
import type { HostView } from '@stellwerk/protocol/messages/volume.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { zeroRange } from '../format/device-io.ts'
import { mayStillLand } from './disk-errors.ts'
import type { ExtentDepartures } from './extent-departures.ts'
import type { ExtentFrees } from './extent-frees.ts'
import type { ExtentGrants } from './extent-grants.ts'
import type { ExtentMap } from './extent-map.ts'
import type { ExtentUnshares } from './extent-unshares.ts'
import type { FullVolume } from './full-volume.ts'
import type { IntentBit, IntentLog } from './intent-log.ts'
import type { Range, WriteRanges } from './ranges.ts'
import type { RequestGate } from './request-gate.ts'

export interface SlowPathParts {
  readonly device: BlockDevice
  readonly geometry: Pick<HostView, 'dataOffset' | 'extentBytes' | 'regionBytes'>
  readonly map: ExtentMap
  readonly grants: ExtentGrants
  readonly unshares: ExtentUnshares
  readonly frees: ExtentFrees
  readonly departures: ExtentDepartures
  readonly ranges: WriteRanges
  readonly gate: RequestGate
  readonly intent: IntentLog
  readonly full: FullVolume
  readonly env: Pick<Environment, 'clock' | 'timers'>
}

/** The part of a request that lies in one extent. */
interface Piece {
  readonly index: number
  readonly within: number
  readonly length: number
  /** From the start of the request. */
  readonly at: number
}

/** Pieces of one request worked on at the same time. */
const PIECES_AT_ONCE = 8
/** Block status is told for so many runs at once. */
const MAX_STATUS_RUNS = 1024

export class SlowPath {
  readonly #parts: SlowPathParts

  constructor(parts: SlowPathParts) {
    this.#parts = parts
  }

  async read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    await this.#parts.ranges.settled(offset, offset + length, null)
    const pieces = this.#pieces(offset, length)
    const results: Uint8Array[][] = new Array(pieces.length)
    await this.#each(pieces, async (piece, i) => {
      const { map, gate, device, departures } = this.#parts
      for (;;) {
        const extent = map.extents[piece.index]!
        if (extent < 0) {
          results[i] = [new Uint8Array(piece.length)]
          return
        }
        if (departures.isLeaving(extent)) {
          await departures.known(extent)
          continue
        }
        const generation = gate.beginIo()
        try {
          results[i] = await device.read(this.#address(extent, piece), piece.length, io)
        } finally {
          gate.endIo(generation)
        }
        // The disk has left this extent meanwhile, and it may be another's by now: what was read means nothing.
        if (map.extents[piece.index] === extent) return
      }
    })
    return results.flat()
  }

  /** `range`: it has its place in the order already, and keeps it. */
  async write(
    offset: number,
    length: number,
    data: readonly Uint8Array[],
    io: Io,
    range: Range | null = null,
  ): Promise<void> {
    const pieces = this.#pieces(offset, length)
    const run = (): Promise<void> =>
      this.#each(pieces, async piece => {
        const part = pieces.length === 1 ? data : slice(data, piece.at, piece.length)
        await this.#change(piece, io, extent =>
          this.#parts.device.write(this.#address(extent, piece), part, { fua: true }, io),
        )
      })
    await (range === null ? this.#ordered(offset, length, run) : run())
  }

  /** Zeroes what is mapped; what is not reads as zeroes, once the owner knows that the disk has let go of it. */
  async zero(
    offset: number,
    length: number,
    flags: { readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    const { map } = this.#parts
    await this.#ordered(offset, length, () =>
      this.#each(this.#pieces(offset, length), async piece => {
        await this.#freed(piece.index, io)
        if (flags.noHole === true || map.extents[piece.index]! >= 0) await this.#zeroPiece(piece, flags, io)
      }),
    )
  }

  /**
   * Zeroes what is mapped, durably, so that what is read from now on stays so whatever becomes of the rest; then gives
   * whole extents back.
   */
  async trim(offset: number, length: number, io: Io): Promise<void> {
    const { map, frees, geometry } = this.#parts
    const run = (): Promise<void> =>
      this.#each(this.#pieces(offset, length), async piece => {
        if (map.extents[piece.index]! < 0) return
        const isWhole = piece.length === geometry.extentBytes
        // Others have these data too: the disk lets go of a whole extent, and a part of one is not worth a copy.
        if (map.isShared(piece.index)) {
          if (isWhole) frees.drop(piece.index)
          return
        }
        await this.#zeroPiece(piece, {}, io)
        if (isWhole && map.extents[piece.index]! >= 0) frees.drop(piece.index)
      })
    if (canary('freed-extent-before-drain')) return run()
    await this.#ordered(offset, length, run)
  }

  status(offset: number, length: number): BlockExtent[] {
    const runs: { length: number; hole: boolean; zero: boolean }[] = []
    for (const piece of this.#pieces(offset, length)) {
      const hole = this.#parts.map.extents[piece.index]! < 0
      const last = runs.at(-1)
      if (last?.hole === hole) last.length += piece.length
      else if (runs.length === MAX_STATUS_RUNS) break
      else runs.push({ length: piece.length, hole, zero: hole })
    }
    return runs
  }

  // --- steps -----------------------------------------------------------------------------------------------------------

  /** After every earlier write that it overlaps, before every later one. */
  async #ordered(offset: number, length: number, run: () => Promise<void>): Promise<void> {
    const { ranges } = this.#parts
    const free = ranges.isFree(offset, offset + length)
    const range = ranges.add(offset, offset + length)
    try {
      if (!free && !canary('overlaps-not-ordered')) await ranges.settled(offset, offset + length, range)
      await run()
    } finally {
      ranges.remove(range)
    }
  }

  /** An index that is on its way back may be given back its extent, with what others see there: nothing was promised yet. */
  async #freed(index: number, io: Io): Promise<void> {
    const { frees } = this.#parts
    for (let over = frees.pending(index); over !== null; over = frees.pending(index)) {
      await this.#inTime(over, io)
      if (frees.failure === null) continue
      const why = `the owner did not take an extent back: ${errorMessage(frees.failure)}`
      throw new BlockError('ESHUTDOWN', 'none', why, { cause: frees.failure })
    }
  }

  /** Gives the extent that may be written in place there: the index gets one, or one of its own, if it has none. */
  async #writable(index: number, io: Io): Promise<number> {
    const { map, grants, unshares, frees } = this.#parts
    for (;;) {
      const extent = map.writable[index]!
      if (extent >= 0) return extent
      const missing = map.extents[index]! < 0 ? (frees.pending(index) ?? grants.want(index)) : unshares.want(index)
      await this.#inTime(missing, io)
    }
  }

  async #zeroPiece(piece: Piece, flags: { readonly noHole?: true; readonly fast?: true }, io: Io): Promise<void> {
    const { device } = this.#parts
    await this.#change(piece, io, extent => {
      const address = this.#address(extent, piece)
      if (device.caps.zero) return device.zero(address, piece.length, { ...flags, fua: true }, io)
      if (flags.fast !== true) return zeroRange(device, address, piece.length, io)
      return Promise.reject(new BlockError('ENOTSUP', 'none', 'zeroing here is no faster than writing'))
    })
  }

  /** Changes a piece in place, with its regions marked; waits while the storage behind it is full. */
  #change(piece: Piece, request: Io, io: (extent: number) => Promise<void>): Promise<void> {
    return this.#parts.full.untilRoom(() => this.#changeOnce(piece, request, io))
  }

  async #changeOnce(piece: Piece, request: Io, io: (extent: number) => Promise<void>): Promise<void> {
    const { map, intent, gate } = this.#parts
    let extent = await this.#writable(piece.index, request)
    if (canary('intent-bit-after-write')) {
      await io(extent)
      for (const bit of await intent.mark(this.#regions(extent, piece))) intent.release(bit, false)
      return
    }
    let bits: IntentBit[]
    for (;;) {
      const regions = this.#regions(extent, piece)
      bits = intent.takeAll(regions) ?? (await this.#mark(regions))
      // While it was marked there may have been a barrier. From here on to the request below there is no turn.
      if (map.writable[piece.index] === extent) break
      for (const bit of bits) intent.release(bit, false)
      extent = await this.#writable(piece.index, request)
    }
    const generation = gate.beginIo()
    let uncertain = true
    try {
      await io(extent)
      uncertain = false
    } catch (error) {
      uncertain = mayStillLand(error)
      throw error
    } finally {
      gate.endIo(generation)
      for (const bit of bits) intent.release(bit, uncertain)
    }
  }

  #mark(regions: readonly number[]): Promise<IntentBit[]> {
    return this.#parts.intent.mark(regions).catch(error => {
      throw new BlockError('EIO', 'none', `the intent to write could not be recorded: ${errorMessage(error)}`, {
        cause: error,
      })
    })
  }

  /** Waiting for the owner ends at the request's deadline, if it has one. */
  async #inTime(work: Promise<void>, io: Io): Promise<void> {
    if (io.deadlineAt === null) return work
    const { clock, timers } = this.#parts.env
    const left = Math.max(0, io.deadlineAt - clock.now())
    return new Promise((resolve, reject) => {
      const timer = timers.after(left, () => {
        reject(new BlockError('EIO', 'none', 'the volume owner gave no extent in time', { retryable: true }))
      })
      work.then(
        () => {
          timer.cancel()
          resolve()
        },
        error => {
          timer.cancel()
          reject(error)
        },
      )
    })
  }

  /**
   * All pieces, some at a time; waits for those under way even when one failed. Of a request one of whose pieces failed the
   * others may have been done; only where one may still land is the whole of unknown outcome.
   */
  async #each(pieces: readonly Piece[], f: (piece: Piece, i: number) => Promise<void>): Promise<void> {
    if (pieces.length === 1) return f(pieces[0]!, 0)
    for (let first = 0; first < pieces.length; first += PIECES_AT_ONCE) {
      const batch = pieces.slice(first, first + PIECES_AT_ONCE)
      const results = await Promise.allSettled(batch.map((piece, i) => f(piece, first + i)))
      const errors: unknown[] = results.flatMap(result => (result.status === 'rejected' ? [result.reason] : []))
      if (errors.length === 0) continue
      const unknown = errors.find(each => !(each instanceof BlockError) || each.outcome === 'unknown')
      const error = unknown ?? errors[0]
      const errno = error instanceof BlockError ? error.errno : 'EIO'
      const outcome = unknown === undefined ? 'partial' : 'unknown'
      throw new BlockError(errno, outcome, `a part of the request failed: ${errorMessage(error)}`, { cause: error })
    }
  }

  #pieces(offset: number, length: number): Piece[] {
    const { extentBytes } = this.#parts.geometry
    const pieces: Piece[] = []
    for (let at = 0; at < length; ) {
      const index = Math.floor((offset + at) / extentBytes)
      const within = offset + at - index * extentBytes
      const step = Math.min(extentBytes - within, length - at)
      pieces.push({ index, within, length: step, at })
      at += step
    }
    return pieces
  }

  #address(extent: number, piece: Piece): number {
    const { dataOffset, extentBytes } = this.#parts.geometry
    return dataOffset + extent * extentBytes + piece.within
  }

  #regions(extent: number, piece: Piece): number[] {
    const { regionBytes } = this.#parts.geometry
    const address = this.#address(extent, piece)
    const last = Math.floor((address + piece.length - 1) / regionBytes)
    const regions: number[] = []
    for (let region = Math.floor(address / regionBytes); region <= last; region += 1) regions.push(region)
    return regions
  }
}

/** The bytes `[at, at + length)` of scattered data, without copying. */
function slice(data: readonly Uint8Array[], at: number, length: number): Uint8Array[] {
  const parts: Uint8Array[] = []
  let start = 0
  for (const part of data) {
    const from = Math.max(at - start, 0)
    const to = Math.min(at + length - start, part.length)
    if (from < to) parts.push(part.subarray(from, to))
    start += part.length
    if (start >= at + length) break
  }
  return parts
}
