// A LUN: a disk in a sparse file. Any number of connections work on it at once, each with its own gate; the LUN keeps
// its own metadata right whatever overlaps, and says success only for what is true. It knows nothing of hosts.

import {
  type BlockErrno,
  BlockError,
  type BlockExtent,
  type Caps,
  FULL_CAPS,
  type Limits,
} from '@stellwerk/block/device.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { File, Files } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { AllocationMap, type DataFile } from './allocation-map.ts'
import { GroupCommit } from './group-commit.ts'
import { CHUNK_BYTES, checkHeader, encodeNewMap, type LunHeader, RESTORE } from './layout.ts'

/** Asked synchronously right before a request touches the file; throws a BlockError with outcome `none` to stop it. */
export interface Gate {
  check(): void
  /** These bytes of the file have been changed (not yet: are durable). */
  applied(offset: number, length: number): void
}

export const LUN_LIMITS: Limits = { minimum: 1, preferred: 4 * KIB, maximum: 32 * MIB }
export const LUN_CAPS: Caps = FULL_CAPS
export const MIN_LUN_BYTES = 4 * KIB
export const MAX_LUN_BYTES = 64 * 1024 * 1024 * MIB

const MAX_STATUS_RUNS = 1_024
/** Zeroes are written in pieces, each of which asks the gate. */
const ZERO_PIECE_BYTES = 8 * MIB
const ZEROES = new Uint8Array(MIB)

interface Span {
  readonly offset: number
  readonly end: number
}

export const LUN_DIRECTORY = 'luns'

function dataPath(id: string): string {
  return `${LUN_DIRECTORY}/${id}.data`
}

function mapPath(id: string): string {
  return `${LUN_DIRECTORY}/${id}.map`
}

export async function createLunFiles(files: Files, header: LunHeader): Promise<void> {
  await files.makeDirectory(LUN_DIRECTORY)
  const data = await files.open(dataPath(header.id), { create: true })
  try {
    await data.truncate(header.sizeBytes)
    await data.sync()
  } finally {
    await data.close()
  }
  // Last, and atomic: data without a map is not a LUN.
  await files.writeAtomic(mapPath(header.id), encodeNewMap(header))
}

export async function removeLunFiles(files: Files, id: string): Promise<void> {
  await files.remove(mapPath(id))
  await files.remove(dataPath(id))
}

export class Lun {
  readonly size: number
  /** Regions that had to be looked through at the start, because the last end was not a clean one. */
  readonly rebuiltRegions: number
  readonly #data: File
  readonly #mapFile: File
  readonly #map: AllocationMap
  readonly #commit: GroupCommit
  readonly #writing = new Set<Span>()
  readonly #punching = new Set<Span>()
  #wakeups: (() => void)[] = []
  #failure: string | null = null
  readonly #failureListeners = new Set<(reason: string) => void>()

  private constructor(size: number, data: File, mapFile: File, map: AllocationMap, rebuilt: number) {
    this.size = size
    this.#data = data
    this.#mapFile = mapFile
    this.#map = map
    this.rebuiltRegions = rebuilt
    this.#commit = new GroupCommit(() => this.#sync())
  }

  /** Rejects with `corrupt-lun` or `foreign-lun` when these are not the files of that LUN, whole. */
  static async open(files: Files, header: LunHeader): Promise<Lun> {
    const where = mapPath(header.id)
    const bytes = await files.read(where)
    if (bytes === null) throw new StellwerkError('corrupt-lun', `the LUN's map is missing`, { where, hint: RESTORE })
    checkHeader(bytes, header, where)
    const data = await files.open(dataPath(header.id), { worker: true })
    let mapFile: File | null = null
    try {
      const size = await data.size()
      if (size !== header.sizeBytes) {
        const message = `the LUN's data has ${size} bytes, not ${header.sizeBytes}`
        throw new StellwerkError('corrupt-lun', message, { where: dataPath(header.id), hint: RESTORE })
      }
      // What a killed predecessor wrote last may be in the cache only: served once, it must not be lost with the power later.
      await data.sync()
      mapFile = await files.open(where)
      // Until there is a LUN that could fail of it, a failed sync fails the start.
      let sync = (): Promise<void> => data.sync()
      const view: DataFile = { read: (offset, length) => data.read(offset, length), sync: () => sync() }
      const { map, rebuilt } = await AllocationMap.load(header, bytes, mapFile, view)
      const lun = new Lun(header.sizeBytes, data, mapFile, map, rebuilt)
      sync = () => lun.#commit.commit()
      return lun
    } catch (error) {
      await mapFile?.close()
      await data.close()
      throw error
    }
  }

  /** Why it serves nothing any more, until it is opened anew; or null. */
  get failure(): string | null {
    return this.#failure
  }

  get allocatedBytes(): number {
    return this.#map.allocatedBytes
  }

  /** Gives the way to stop listening. */
  onFailed(f: (reason: string) => void): () => void {
    this.#failureListeners.add(f)
    return () => this.#failureListeners.delete(f)
  }

  async read(offset: number, length: number, gate: Gate): Promise<Uint8Array[]> {
    this.#check(gate)
    try {
      return [await this.#data.read(offset, length)]
    } catch (error) {
      throw fileError('reading', error)
    }
  }

  async write(offset: number, data: readonly Uint8Array[], length: number, fua: boolean, gate: Gate): Promise<void> {
    this.#check(gate)
    const span: Span = { offset, end: offset + length }
    if (!this.#mayStart(span)) await this.#untilReady(span)
    // From here to the file there is no wait: what the gate says now holds when the write begins.
    this.#check(gate)
    this.#map.mark(chunkOf(offset), chunkOf(span.end - 1))
    this.#writing.add(span)
    try {
      await this.#data.write(offset, data)
    } catch (error) {
      throw fileError('writing', error)
    } finally {
      this.#writing.delete(span)
      this.#wake()
    }
    gate.applied(offset, length)
    if (fua) await this.#durable()
  }

  async flush(gate: Gate): Promise<void> {
    this.#check(gate)
    await this.#durable()
  }

  /** Zeroes; gives whole chunks back unless `noHole`. `fast`: refused when it would have to write it all. */
  async zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    gate: Gate,
  ): Promise<void> {
    this.#check(gate)
    const end = offset + length
    const first = Math.ceil(offset / CHUNK_BYTES)
    const last = this.#lastWhole(end)
    if (flags.noHole || last < first) {
      if (flags.fast) throw new BlockError('ENOTSUP', 'none', 'this range can only be zeroed by writing it')
      await this.#writeZeroes(offset, end, flags.noHole === true, gate)
    } else {
      await this.#writeZeroes(offset, first * CHUNK_BYTES, false, gate)
      await this.#punch(first, last, gate)
      await this.#writeZeroes(Math.min((last + 1) * CHUNK_BYTES, end), end, false, gate)
    }
    if (flags.fua) await this.#durable()
  }

  /** Gives whole chunks back; the rest of the range stays as it is. */
  async trim(offset: number, length: number, fua: boolean, gate: Gate): Promise<void> {
    this.#check(gate)
    const first = Math.ceil(offset / CHUNK_BYTES)
    const last = this.#lastWhole(offset + length)
    if (last >= first) await this.#punch(first, last, gate)
    if (fua) await this.#durable()
  }

  blockStatus(offset: number, length: number, gate: Gate): BlockExtent[] {
    this.#check(gate)
    const end = offset + length
    const extents: BlockExtent[] = []
    for (const { first, count, marked } of this.#map.runs(chunkOf(offset), chunkOf(end - 1), MAX_STATUS_RUNS)) {
      const from = Math.max(first * CHUNK_BYTES, offset)
      const to = Math.min((first + count) * CHUNK_BYTES, end)
      extents.push({ length: to - from, hole: !marked, zero: !marked })
    }
    return extents
  }

  /** The caller has let all requests end. Leaves nothing to look through at the next start. */
  async close(): Promise<void> {
    try {
      if (this.#failure === null) await this.#map.close()
    } finally {
      await this.#mapFile.close()
      await this.#data.close()
    }
  }

  // --- order among overlapping requests ----------------------------------------------------------------------------------

  #mayStart(span: Span): boolean {
    if (this.#punching.size > 0 && overlapsAny(this.#punching, span)) return false
    return this.#map.mayMark(chunkOf(span.offset), chunkOf(span.end - 1))
  }

  async #untilReady(span: Span): Promise<void> {
    while (!this.#mayStart(span)) {
      if (this.#failure !== null) throw this.#failed()
      if (overlapsAny(this.#punching, span)) await this.#change()
      else await this.#mapWork(() => this.#map.intend(chunkOf(span.offset), chunkOf(span.end - 1)))
    }
  }

  #change(): Promise<void> {
    return new Promise(resolve => this.#wakeups.push(resolve))
  }

  #wake(): void {
    if (this.#wakeups.length === 0) return
    const wakeups = this.#wakeups
    this.#wakeups = []
    for (const wake of wakeups) wake()
  }

  /**
   * Punching a chunk and clearing its mark must not enclose a write to that chunk, or the mark of that write is lost:
   * it waits for those begun, and those that come wait for it.
   */
  async #punch(first: number, last: number, gate: Gate): Promise<void> {
    const span: Span = { offset: first * CHUNK_BYTES, end: Math.min((last + 1) * CHUNK_BYTES, this.size) }
    const before = [...this.#punching].filter(other => overlaps(other, span))
    this.#punching.add(span)
    try {
      while (overlapsAny(this.#writing, span) || before.some(other => this.#punching.has(other))) await this.#change()
      for (const run of this.#map.runs(first, last, last - first + 1)) {
        if (!run.marked) continue
        this.#check(gate)
        const offset = run.first * CHUNK_BYTES
        const length = Math.min(run.count * CHUNK_BYTES, this.size - offset)
        await this.#data.punch(offset, length)
        this.#map.clear(run.first, run.first + run.count - 1)
        gate.applied(offset, length)
      }
    } catch (error) {
      throw error instanceof BlockError ? error : fileError('punching', error)
    } finally {
      this.#punching.delete(span)
      this.#wake()
    }
  }

  /** `all`: also where there is a hole, so that it is allocated. */
  async #writeZeroes(from: number, end: number, all: boolean, gate: Gate): Promise<void> {
    for (let offset = from; offset < end; ) {
      const piece = Math.min(end, offset + ZERO_PIECE_BYTES)
      const hole = !all && this.#map.runs(chunkOf(offset), chunkOf(piece - 1), 1)[0]
      const stop = hole ? Math.min(piece, (hole.first + hole.count) * CHUNK_BYTES) : piece
      if (!hole || hole.marked) {
        const parts: Uint8Array[] = []
        for (let at = offset; at < stop; at += ZEROES.length)
          parts.push(ZEROES.subarray(0, Math.min(ZEROES.length, stop - at)))
        await this.write(offset, parts, stop - offset, false, gate)
      }
      offset = stop
    }
  }

  /** The last chunk that ends at or before `end`; the LUN's own last chunk may be a short one. */
  #lastWhole(end: number): number {
    return (end === this.size ? Math.ceil(end / CHUNK_BYTES) : Math.floor(end / CHUNK_BYTES)) - 1
  }

  // --- durability and failure ----------------------------------------------------------------------------------------------

  async #durable(): Promise<void> {
    if (canary('ack-before-sync')) {
      // A planted bug: nobody waits, and nobody hears of a failure.
      this.#commit.commit().catch(() => undefined)
      return
    }
    await this.#commit.commit()
  }

  async #sync(): Promise<void> {
    if (this.#failure !== null) throw this.#failed()
    try {
      await this.#data.sync()
    } catch (error) {
      // The kernel reports it once and forgets what it dropped: no later success means anything.
      this.#fail(`a sync failed: ${errorMessage(error)}`)
      throw new BlockError('EIO', 'unknown', `a sync failed; the LUN serves nothing until it is started anew`, {
        cause: error,
      })
    }
  }

  async #mapWork(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (error instanceof BlockError) throw error
      if (errorCode(error) === 'ENOSPC') throw new BlockError('ENOSPC', 'none', 'no space left for the allocation map')
      this.#fail(`the allocation map can't be written: ${errorMessage(error)}`)
      throw new BlockError('EIO', 'none', `the LUN's allocation map can't be written`, { cause: error })
    }
  }

  #fail(reason: string): void {
    if (this.#failure !== null) return
    this.#failure = reason
    this.#wake()
    for (const listener of this.#failureListeners) listener(reason)
  }

  #failed(): BlockError {
    return new BlockError('ESHUTDOWN', 'none', `lun-failed ${this.#failure}`, { hint: 'start the storage anew' })
  }

  #check(gate: Gate): void {
    gate.check()
    if (this.#failure !== null) throw this.#failed()
  }
}

function chunkOf(offset: number): number {
  return Math.floor(offset / CHUNK_BYTES)
}

function overlaps(a: Span, b: Span): boolean {
  return a.offset < b.end && b.offset < a.end
}

function overlapsAny(spans: ReadonlySet<Span>, span: Span): boolean {
  for (const other of spans) if (overlaps(other, span)) return true
  return false
}

const ERRNOS: { readonly [code: string]: BlockErrno } = {
  ENOSPC: 'ENOSPC',
  EDQUOT: 'ENOSPC',
  ENOMEM: 'ENOMEM',
  EFBIG: 'ENOSPC',
}

function fileError(doing: string, error: unknown): BlockError {
  const code = errorCode(error)
  return new BlockError(ERRNOS[code] ?? 'EIO', 'unknown', `${doing} the LUN's file failed: ${errorMessage(error)}`, {
    cause: error,
  })
}
