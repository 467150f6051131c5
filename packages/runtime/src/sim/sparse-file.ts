// The contents of a simulated file: what reads see, and below it, sector by sector, what a power loss would leave. Sparse, so
// that a large LUN costs what was written of it. No time and no faults here.

import { assert } from '../assert.ts'
import type { SimRandom } from './random.ts'

export const SECTOR_BYTES = 512
export const PAGE_BYTES = 4096
const SECTORS_A_PAGE = PAGE_BYTES / SECTOR_BYTES
const ALL_SECTORS = (1 << SECTORS_A_PAGE) - 1
const ZEROES = new Uint8Array(PAGE_BYTES)

/** What a power loss does to data that was not synced. */
export type CrashMode = 'lost' | 'torn' | 'kept'

/** The former contents of a page's sectors; `bytes` null: zeroes. */
interface Former {
  mask: number
  bytes: Uint8Array | null
}

/**
 * The changes since some point, as what it takes to undo them. Layers are stacked: the newest takes changes, those below
 * wait for a sync under way, and the lowest may hold what a failed sync left in doubt.
 */
interface Layer {
  readonly pages: Map<number, Former>
  /** The size at that point, if it changed since. */
  size: number | null
  /** A sync of it failed: only writing again makes its sectors durable. */
  failed: boolean
}

export type SyncToken = Layer

const newLayer = (): Layer => ({ pages: new Map(), size: null, failed: false })

export class SparseFile {
  #pages = new Map<number, Uint8Array>()
  #size = 0
  /** Oldest first; never empty. */
  #layers: Layer[] = [newLayer()]
  /** What `takeChanged` is to tell; null: nobody has asked yet. */
  #changed: Set<number> | null = null

  get size(): number {
    return this.#size
  }

  get allocatedBytes(): number {
    return this.#pages.size * PAGE_BYTES
  }

  /** Whether a power loss could change it. */
  get dirty(): boolean {
    return this.#layers.some(layer => layer.pages.size > 0 || layer.size !== null)
  }

  // --- contents ------------------------------------------------------------------------------------------------------

  read(offset: number, length: number): Uint8Array {
    const result = new Uint8Array(length)
    this.#eachPage(offset, length, (page, from, to, at) => {
      const bytes = this.#pages.get(page)
      if (bytes === undefined) return
      result.set(to - from === PAGE_BYTES ? bytes : bytes.subarray(from, to), at)
    })
    return result
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    this.#write(offset, parts, true)
  }

  /** As a write with FUA does it: on stable storage at once, and nothing to undo. */
  writeDurable(offset: number, parts: readonly Uint8Array[]): void {
    const end = this.#write(offset, parts, false)
    this.makeDurable(offset, end - offset)
  }

  /** The offset at which it ends. */
  #write(offset: number, parts: readonly Uint8Array[], undoable: boolean): number {
    let at = offset
    for (const part of parts) {
      this.#eachPage(at, part.byteLength, (page, from, to, partAt) => {
        if (undoable) this.#saveFormer(page, from, to)
        this.#changed?.add(page)
        // A page that became the undo copy as it is must not be written to any more.
        if (to - from === PAGE_BYTES) this.#pages.set(page, new Uint8Array(part.subarray(partAt, partAt + PAGE_BYTES)))
        else this.#pageToWrite(page).set(part.subarray(partAt, partAt + to - from), from)
      })
      at += part.byteLength
    }
    if (at > this.#size) this.#resize(at)
    return at
  }

  punch(offset: number, length: number): void {
    this.#zero(offset, Math.min(length, Math.max(0, this.#size - offset)))
  }

  truncate(size: number): void {
    if (size < this.#size) {
      this.#zero(size, this.#size - size)
    }
    if (size !== this.#size) this.#resize(size)
  }

  /** Offsets of the pages in a range that read other than those of another file. Costs what was written of both. */
  differingPages(other: SparseFile, offset: number, length: number): number[] {
    const end = offset + length
    const within = (at: number): boolean => at > offset - PAGE_BYTES && at < end
    const written = new Set<number>()
    for (const file of [this, other]) for (const page of file.#pages.keys()) written.add(page * PAGE_BYTES)
    return [...written].filter(at => within(at) && this.pageDiffers(other, at)).sort((a, b) => a - b)
  }

  /** Whether the page that begins at `at` reads other than that of another file. */
  pageDiffers(other: SparseFile, at: number): boolean {
    const bytes = this.#pages.get(at / PAGE_BYTES)
    const others = other.#pages.get(at / PAGE_BYTES)
    if (bytes === others) return false
    return Buffer.compare(bytes ?? ZEROES, others ?? ZEROES) !== 0
  }

  /** Offsets of the pages that may have changed since this was last asked, or ever; for one asker. */
  takeChanged(): readonly number[] {
    const pages = this.#changed === null ? this.#pages.keys() : this.#changed
    const offsets = Array.from(pages, page => page * PAGE_BYTES)
    this.#changed = new Set()
    return offsets
  }

  /** How many pages a write would add. */
  pagesToAdd(offset: number, length: number): number {
    let count = 0
    this.#eachPage(offset, length, page => {
      if (!this.#pages.has(page)) count++
    })
    return count
  }

  /** Changes bytes on the medium itself, seen and durable: bit rot. */
  corrupt(offset: number, bytes: Uint8Array): void {
    this.writeDurable(offset, [bytes])
  }

  // --- durability ----------------------------------------------------------------------------------------------------

  /** From here on, new changes are not part of this sync. */
  beginSync(): SyncToken {
    const layer = this.#top()
    this.#layers.push(newLayer())
    return layer
  }

  /** False: the device failed it, or an older sync it stood on, and its data stays in doubt. */
  endSync(token: SyncToken, ok: boolean): boolean {
    if (token.failed) return false
    const index = this.#layers.indexOf(token)
    // A later sync has covered it.
    if (index < 0) return ok
    const ended = this.#layers.splice(0, index + 1)
    const failed = ended[0]?.failed === true ? (ended.shift() ?? newLayer()) : newLayer()
    failed.failed = true
    if (ok) {
      for (const layer of ended) for (const [page, former] of layer.pages) forget(failed, page, former.mask)
      // The size is metadata: whatever sync succeeds takes it along.
      failed.size = null
    } else {
      for (const layer of ended) {
        layer.failed = true
        for (const [page, former] of layer.pages) adopt(failed, page, former)
        failed.size ??= layer.size
      }
    }
    if (failed.pages.size > 0 || failed.size !== null) this.#layers.unshift(failed)
    return ok
  }

  /** The range as it is now is on stable storage (a write with FUA), with the size. */
  makeDurable(offset: number, length: number): void {
    this.#eachPage(offset, length, (page, from, to) => {
      const mask = sectorMask(from, to)
      for (const layer of this.#layers) forget(layer, page, mask)
    })
    for (const layer of this.#layers) layer.size = null
  }

  /** What a power loss would leave, were everything unsynced lost. */
  readDurable(offset: number, length: number): Uint8Array {
    const copy = this.clone()
    copy.powerLost('lost', null)
    return copy.read(offset, length)
  }

  get durableSize(): number {
    return this.#layers.find(layer => layer.size !== null)?.size ?? this.#size
  }

  powerLost(mode: CrashMode, random: SimRandom | null): void {
    if (mode !== 'kept') {
      // Per sector (and for the size): go down from the newest state, and with `torn` stop anywhere on the way.
      const undo = () => mode === 'lost' || (random !== null && random.int(2) === 0)
      const layers = [...this.#layers].reverse()
      const pages = new Set<number>()
      for (const layer of this.#layers) for (const page of layer.pages.keys()) pages.add(page)
      for (const page of pages) this.#undoPage(page, layers, undo)
      let size = this.#size
      for (const layer of layers) {
        if (layer.size === null) continue
        if (!undo()) break
        size = layer.size
      }
      this.#size = size
      this.#zeroPages(size)
    }
    this.#layers = [newLayer()]
  }

  clone(): SparseFile {
    const copy = new SparseFile()
    for (const [page, bytes] of this.#pages) copy.#pages.set(page, bytes.slice())
    copy.#size = this.#size
    copy.#layers = this.#layers.map(layer => ({
      pages: new Map(
        [...layer.pages].map(([page, former]) => [page, { mask: former.mask, bytes: former.bytes?.slice() ?? null }]),
      ),
      size: layer.size,
      failed: layer.failed,
    }))
    return copy
  }

  // --- inside --------------------------------------------------------------------------------------------------------

  #top(): Layer {
    const top = this.#layers.at(-1)
    assert(top !== undefined, 'a file has a layer that takes changes')
    return top
  }

  #resize(size: number): void {
    const top = this.#top()
    top.size ??= this.#size
    this.#size = size
  }

  #zero(offset: number, length: number): void {
    this.#eachPage(offset, length, (page, from, to) => {
      const bytes = this.#pages.get(page)
      if (bytes === undefined) return
      this.#saveFormer(page, from, to)
      this.#changed?.add(page)
      if (to - from === PAGE_BYTES) this.#pages.delete(page)
      else bytes.fill(0, from, to)
    })
  }

  #pageToWrite(page: number): Uint8Array {
    let bytes = this.#pages.get(page)
    if (bytes === undefined) {
      bytes = new Uint8Array(PAGE_BYTES)
      this.#pages.set(page, bytes)
    }
    return bytes
  }

  /** Drops what lies past the size, without undo. */
  #zeroPages(size: number): void {
    for (const [page, bytes] of this.#pages) {
      const start = page * PAGE_BYTES
      if (start + PAGE_BYTES > size) this.#changed?.add(page)
      if (start >= size) this.#pages.delete(page)
      else if (start + PAGE_BYTES > size) bytes.fill(0, size - start)
    }
  }

  /** Before bytes `[from, to)` of a page change. */
  #saveFormer(page: number, from: number, to: number): void {
    const layer = this.#top()
    const mask = sectorMask(from, to)
    const bytes = this.#pages.get(page)
    const former = layer.pages.get(page)
    if (former === undefined) {
      // A page that is replaced as a whole becomes the copy itself.
      const whole = to - from === PAGE_BYTES
      layer.pages.set(page, { mask, bytes: bytes === undefined ? null : whole ? bytes : bytes.slice() })
      return
    }
    const missing = mask & ~former.mask
    if (missing === 0) return
    if (bytes !== undefined) {
      former.bytes ??= new Uint8Array(PAGE_BYTES)
      copySectors(bytes, former.bytes, missing)
    } else if (former.bytes !== null) zeroSectors(former.bytes, missing)
    former.mask |= missing
  }

  #undoPage(page: number, newestFirst: readonly Layer[], undo: () => boolean): void {
    this.#changed?.add(page)
    for (let sector = 0; sector < SECTORS_A_PAGE; sector++) {
      const mask = 1 << sector
      for (const layer of newestFirst) {
        const former = layer.pages.get(page)
        if (former === undefined || (former.mask & mask) === 0) continue
        if (!undo()) break
        if (former.bytes !== null) copySectors(former.bytes, this.#pageToWrite(page), mask)
        else {
          const bytes = this.#pages.get(page)
          if (bytes !== undefined) zeroSectors(bytes, mask)
        }
      }
    }
  }

  /** `f(page, from, to, at)`: bytes `[from, to)` of the page are those from `at` on in the range. */
  #eachPage(offset: number, length: number, f: (page: number, from: number, to: number, at: number) => void): void {
    assert(offset >= 0 && length >= 0 && Number.isSafeInteger(offset + length), `range ${offset}+${length}`)
    let at = 0
    while (at < length) {
      const position = offset + at
      const page = Math.floor(position / PAGE_BYTES)
      const from = position - page * PAGE_BYTES
      const to = Math.min(PAGE_BYTES, from + length - at)
      f(page, from, to, at)
      at += to - from
    }
  }
}

function sectorMask(from: number, to: number): number {
  const first = Math.floor(from / SECTOR_BYTES)
  const end = Math.ceil(to / SECTOR_BYTES)
  return ALL_SECTORS & ((1 << end) - 1) & ~((1 << first) - 1)
}

function copySectors(source: Uint8Array, target: Uint8Array, mask: number): void {
  for (let sector = 0; sector < SECTORS_A_PAGE; sector++) {
    if ((mask & (1 << sector)) === 0) continue
    const at = sector * SECTOR_BYTES
    target.set(source.subarray(at, at + SECTOR_BYTES), at)
  }
}

function zeroSectors(bytes: Uint8Array, mask: number): void {
  for (let sector = 0; sector < SECTORS_A_PAGE; sector++) {
    if ((mask & (1 << sector)) !== 0) bytes.fill(0, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
  }
}

function forget(layer: Layer, page: number, mask: number): void {
  const former = layer.pages.get(page)
  if (former === undefined) return
  former.mask &= ~mask
  if (former.mask === 0) layer.pages.delete(page)
}

/** Takes over what the layer does not know yet: what it has is older. */
function adopt(layer: Layer, page: number, newer: Former): void {
  const former = layer.pages.get(page)
  if (former === undefined) {
    layer.pages.set(page, newer)
    return
  }
  const missing = newer.mask & ~former.mask
  if (newer.bytes !== null) {
    former.bytes ??= new Uint8Array(PAGE_BYTES)
    copySectors(newer.bytes, former.bytes, missing)
  } else if (former.bytes !== null) zeroSectors(former.bytes, missing)
  former.mask |= missing
}
