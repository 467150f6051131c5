// Which chunks of a LUN may hold something. What is not marked reads as zeroes, after a crash too: a region is named in
// the durable intent record before the first unmarked chunk in it is written, and a start after a crash looks at the
// chunks of the regions named there. Pages are written when a region's turn in the record ends, and on a clean close.
// Errors of the map's file are passed up; the LUN fails of them.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { File } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import {
  CHUNK_BYTES,
  CHUNKS_PER_REGION,
  chunkCount,
  decodeIntents,
  decodePage,
  encodeIntents,
  encodePage,
  intentOffset,
  type LunHeader,
  MAX_INTENTS,
  pageOffset,
  regionCount,
} from './layout.ts'

/** Regions given up at once when the record is full: so many page writes for one more record. */
const EVICTED_AT_ONCE = MAX_INTENTS / 2
/** Read at once when a region is scanned. */
const SCAN_BYTES = 1024 * 1024

/** The LUN's data, as far as the map needs it. */
export interface DataFile {
  read(offset: number, length: number): Promise<Uint8Array>
  sync(): Promise<void>
}

export interface Run {
  readonly first: number
  /** Chunks, one after the other, that are all marked or all not. */
  readonly count: number
  readonly marked: boolean
}

export class AllocationMap {
  readonly #header: LunHeader
  readonly #file: File
  readonly #data: DataFile
  readonly #bits: Uint8Array
  readonly #chunks: number
  /** Regions of the durable record: here chunks may be marked at once. In order of age. */
  readonly #intended: Set<number>
  /** Regions whose page on disk differs, with a number that grows at each change. */
  readonly #dirty = new Map<number, number>()
  #changes = 0
  #sequence: number
  #marked = 0
  /** Writers of the map's file stand in line. */
  #tail: Promise<void> = Promise.resolve()

  private constructor(header: LunHeader, file: File, data: DataFile, bits: Uint8Array, sequence: number) {
    this.#header = header
    this.#file = file
    this.#data = data
    this.#bits = bits
    this.#chunks = chunkCount(header.sizeBytes)
    this.#intended = new Set()
    this.#sequence = sequence
  }

  /** `bytes`: the whole map file, whose header is checked. Scans what a crash left open; `rebuilt` counts those regions. */
  static async load(
    header: LunHeader,
    bytes: Uint8Array,
    file: File,
    data: DataFile,
  ): Promise<{ map: AllocationMap; rebuilt: number }> {
    const regions = regionCount(header.sizeBytes)
    const bits = new Uint8Array((regions * CHUNKS_PER_REGION) / 8)
    const intents = decodeIntents(bytes, header.id, regions)
    const doubtful = new Set(
      intents === null ? Array.from({ length: regions }, (_, region) => region) : intents.regions,
    )
    for (let region = 0; region < regions; region++) {
      if (!decodePage(bytes, header.id, region, bits)) doubtful.add(region)
    }
    const map = new AllocationMap(header, file, data, bits, intents?.sequence ?? 0)
    for (const region of [...doubtful].sort((a, b) => a - b)) await map.#scan(region)
    for (let chunk = 0; chunk < map.#chunks; chunk++) if (map.isMarked(chunk)) map.#marked += 1
    if (doubtful.size > 0) await map.#writePages([...map.#dirty.keys()])
    // Also when nothing was named: the record that could not be read is replaced.
    if (doubtful.size > 0) await map.#writeIntents()
    return { map, rebuilt: doubtful.size }
  }

  get allocatedBytes(): number {
    return this.#marked * CHUNK_BYTES
  }

  isMarked(chunk: number): boolean {
    return ((this.#bits[chunk >> 3] ?? 0) & (1 << (chunk & 7))) !== 0
  }

  /** True: `mark` may be called for these chunks now, without waiting. */
  mayMark(first: number, last: number): boolean {
    for (let chunk = first; chunk <= last; chunk++) {
      if (!this.isMarked(chunk) && !this.#intended.has(Math.floor(chunk / CHUNKS_PER_REGION))) return false
    }
    return true
  }

  /** Makes `mayMark` true for the moment of its return; ask again after any wait. */
  async intend(first: number, last: number): Promise<void> {
    const wanted: number[] = []
    for (let region = Math.floor(first / CHUNKS_PER_REGION); region <= Math.floor(last / CHUNKS_PER_REGION); region++) {
      wanted.push(region)
    }
    assert(wanted.length <= EVICTED_AT_ONCE, 'a write spans few regions')
    await this.#inLine(async () => {
      const missing = wanted.filter(region => !this.#intended.has(region))
      if (missing.length === 0) return
      if (this.#intended.size + missing.length > MAX_INTENTS) await this.#evict(wanted)
      const regions = [...this.#intended, ...missing]
      await this.#writeIntents(regions)
      for (const region of missing) this.#intended.add(region)
    })
  }

  mark(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) {
      if (this.isMarked(chunk)) continue
      assert(this.#intended.has(Math.floor(chunk / CHUNKS_PER_REGION)), 'a chunk is marked in a region that is named')
      this.#bits[chunk >> 3]! |= 1 << (chunk & 7)
      this.#marked += 1
      this.#changed(chunk)
    }
  }

  /** After the chunks' bytes have been punched, and before anything is written to them again. */
  clear(first: number, last: number): void {
    for (let chunk = first; chunk <= last; chunk++) {
      if (!this.isMarked(chunk)) continue
      this.#bits[chunk >> 3]! &= ~(1 << (chunk & 7))
      this.#marked -= 1
      this.#changed(chunk)
    }
  }

  /** The runs that cover the chunks from `first` to `last`, at most `limit` of them. */
  runs(first: number, last: number, limit: number): Run[] {
    const runs: Run[] = []
    let start = first
    while (start <= last && runs.length < limit) {
      const marked = this.isMarked(start)
      let end = start + 1
      while (end <= last && this.isMarked(end) === marked) end += 1
      runs.push({ first: start, count: end - start, marked })
      start = end
    }
    return runs
  }

  /** Writes all that is not on disk yet, so that the next start need not scan. The caller lets nothing be written meanwhile. */
  async close(): Promise<void> {
    await this.#inLine(async () => {
      if (this.#dirty.size > 0) await this.#writePages([...this.#dirty.keys()])
      if (this.#intended.size > 0) await this.#writeIntents([])
      this.#intended.clear()
    })
  }

  #changed(chunk: number): void {
    this.#changes += 1
    this.#dirty.set(Math.floor(chunk / CHUNKS_PER_REGION), this.#changes)
  }

  /** Gives up the oldest regions that nobody wants and that do not change meanwhile. */
  async #evict(wanted: readonly number[]): Promise<void> {
    // Each turn writes pages of regions that may be marked in again while it lasts; these keep their place.
    for (;;) {
      const oldest = [...this.#intended].filter(region => !wanted.includes(region)).slice(0, EVICTED_AT_ONCE)
      await this.#writePages(oldest)
      for (const region of oldest) if (!this.#dirty.has(region)) this.#intended.delete(region)
      if (this.#intended.size + wanted.length <= MAX_INTENTS) return
    }
  }

  async #writePages(regions: readonly number[]): Promise<void> {
    const before = regions.map(region => this.#dirty.get(region))
    const pages = regions.map(region => encodePage(this.#header.id, region, this.#bits))
    // A page may say that a chunk is empty only when its punching can't be undone by a crash any more.
    await this.#data.sync()
    for (const [index, region] of regions.entries()) await this.#file.write(pageOffset(region), [pages[index]!])
    await this.#syncFile()
    for (const [index, region] of regions.entries()) {
      if (this.#dirty.get(region) === before[index]) this.#dirty.delete(region)
    }
  }

  async #writeIntents(regions: readonly number[] = []): Promise<void> {
    // The number is used up only by a record that was written: the other record must stay the last good one.
    const sequence = this.#sequence + 1
    const record = encodeIntents(this.#header.id, sequence, regions)
    await this.#file.write(intentOffset(sequence), [record])
    await this.#syncFile()
    this.#sequence = sequence
  }

  /** Whatever its code: what the file holds is unknown after a failed sync. */
  async #syncFile(): Promise<void> {
    try {
      await this.#file.sync()
    } catch (error) {
      throw new StellwerkError('sync-failed', `a sync of the map failed: ${errorMessage(error)}`, { cause: error })
    }
  }

  async #scan(region: number): Promise<void> {
    const first = region * CHUNKS_PER_REGION
    const end = Math.min(first + CHUNKS_PER_REGION, this.#chunks)
    const step = SCAN_BYTES / CHUNK_BYTES
    for (let chunk = first; chunk < end; chunk += step) {
      const until = Math.min(chunk + step, end)
      const runs = this.runs(chunk, until - 1, step)
      if (runs.every(run => run.marked)) continue
      await this.#scanChunks(chunk, until)
    }
    // Even if nothing was found: an untrusted page is written anew.
    this.#changed(first)
  }

  async #scanChunks(first: number, end: number): Promise<void> {
    const offset = first * CHUNK_BYTES
    let bytes: Uint8Array | null = null
    try {
      bytes = await this.#data.read(offset, Math.min(end * CHUNK_BYTES, this.#header.sizeBytes) - offset)
    } catch {
      // One bad sector must not cost the LUN: a chunk that can't be read may hold something, the others are looked at.
      if (end - first > 1) {
        for (let chunk = first; chunk < end; chunk++) await this.#scanChunks(chunk, chunk + 1)
        return
      }
    }
    for (let chunk = first; chunk < end; chunk++) {
      if (this.isMarked(chunk)) continue
      const at = (chunk - first) * CHUNK_BYTES
      if (bytes === null || !isZero(bytes.subarray(at, at + CHUNK_BYTES))) this.#bits[chunk >> 3]! |= 1 << (chunk & 7)
    }
  }

  #inLine(work: () => Promise<void>): Promise<void> {
    const done = this.#tail.then(work)
    // A failure is its caller's; those behind it try for themselves and fail for themselves.
    this.#tail = done.catch(() => undefined)
    return done
  }
}

const ZERO_CHUNK = Buffer.alloc(CHUNK_BYTES)

function isZero(bytes: Uint8Array): boolean {
  return ZERO_CHUNK.compare(bytes, 0, bytes.length, 0, bytes.length) === 0
}
