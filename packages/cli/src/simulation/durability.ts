// The ground truth of rule IO2: at each power loss of a storage, what it had acknowledged is compared with what its disk
// really kept, and each range that was lost is put on record (`storage.lost`). The storage's own word is not asked.
//
// A sector is judged when the newest write that took effect on it has been acknowledged by FUA: where a newer one is under
// way nobody was promised anything. Lost means: the disk showed the acknowledged bytes only in its cache, and after the
// power loss it shows what was durable before. A storage that is killed leaves writes half done that are on no record; so
// then what is only in the cache is not judged until it is written again.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { SECTOR_BYTES, type SparseFile } from '@stellwerk/runtime/sim/sparse-file.ts'
import { LUN_DIRECTORY } from '@stellwerk/storage/lun/lun.ts'
import type { World } from './world.ts'

/** Compared at once. */
const PIECE_SECTORS = 128
/** Writes of one LUN that await their acknowledgement; a lost connection leaves some behind, and the oldest go. */
const MAX_AWAITED = 4096

interface Lun {
  readonly storage: string
  readonly name: string
  /** Its file: a volume that gets a leg on a storage again has another LUN there, which owes nothing of the last one's. */
  readonly path: string | null
  /** Per sector, the number of the newest write that took effect, and of the newest acknowledged. */
  readonly applied: Uint32Array
  readonly acknowledged: Uint32Array
  /** `offset:length` → the writes of exactly that range, oldest first. */
  readonly awaited: Map<string, number[]>
  writes: number
}

interface Suspect {
  readonly lun: Lun
  readonly file: SparseFile
  readonly offset: number
  readonly former: Uint8Array
}

export class DurabilityWitness {
  readonly #world: World
  readonly #lunBytes: number
  readonly #luns = new Map<string, Lun>()

  /** `lunBytes`: no LUN is larger. To be made after the monitors listen, so that they see a power loss before its toll. */
  constructor(world: World, lunBytes: number) {
    this.#world = world
    this.#lunBytes = lunBytes
    world.sim.onRecord(record => this.#observe(record))
  }

  #observe(record: TraceRecord): void {
    switch (record.kind) {
      case 'storage.applied':
        this.#applied(record)
        return
      case 'storage.acknowledged':
        this.#acknowledged(record)
        return
      case 'storage.power-cycled':
        this.#powerLoss((record.body as { storage: string }).storage)
        return
      case 'volume.deleted':
        for (const [key, { name }] of this.#luns) if (name === record.volume) this.#luns.delete(key)
        return
      case 'process.dead':
        this.#dead((record.body as { process: string }).process)
    }
  }

  #lun(record: TraceRecord): Lun {
    const name = record.volume ?? ''
    const key = `${record.process}/${name}`
    const path = lunPath(this.#world, record.process, name)
    let lun = this.#luns.get(key)
    // While one that is deleted drains it has no file any more.
    if (lun === undefined || (path !== null && lun.path !== path)) {
      const sectors = this.#lunBytes / SECTOR_BYTES
      lun = {
        storage: record.process,
        name,
        path,
        applied: new Uint32Array(sectors),
        acknowledged: new Uint32Array(sectors),
        awaited: new Map(),
        writes: 0,
      }
      this.#luns.set(key, lun)
    }
    return lun
  }

  #applied(record: TraceRecord): void {
    const lun = this.#lun(record)
    const { offset, length, part } = record.body as { offset: number; length: number; part?: boolean }
    const number = ++lun.writes
    // Also a sector of which only a piece was written is not what was acknowledged any more.
    lun.applied.fill(number, Math.floor(offset / SECTOR_BYTES), Math.ceil((offset + length) / SECTOR_BYTES))
    if (part === true) return
    const range = `${offset}:${length}`
    const numbers = lun.awaited.get(range)
    if (numbers !== undefined) numbers.push(number)
    else lun.awaited.set(range, [number])
    if (lun.awaited.size <= MAX_AWAITED) return
    for (const oldest of lun.awaited.keys()) {
      lun.awaited.delete(oldest)
      break
    }
  }

  #acknowledged(record: TraceRecord): void {
    const lun = this.#lun(record)
    const { offset, length } = record.body as { offset: number; length: number }
    const range = `${offset}:${length}`
    const numbers = lun.awaited.get(range)
    // A flush: which writes it covers is known only to who asked for it.
    if (numbers === undefined) return
    // Two of the same range at once: the older one's promise is the smaller.
    const number = numbers.shift() ?? 0
    if (numbers.length === 0) lun.awaited.delete(range)
    // Of a sector that is written in part, the other part may be of a write that nobody acknowledged.
    const first = Math.ceil(offset / SECTOR_BYTES)
    const end = Math.floor((offset + length) / SECTOR_BYTES)
    for (let sector = first; sector < end; sector++) {
      // Where a newer write has taken effect, the bytes are not these any more.
      if (lun.applied[sector] === number) lun.acknowledged[sector] = number
    }
  }

  /** What awaited an acknowledgement will not get one, and what was in flight has left its marks, or is about to. */
  #dead(process: string): void {
    const { sim } = this.#world
    for (const lun of this.#luns.values()) {
      if (lun.storage !== process) continue
      lun.awaited.clear()
      sim.after(0, () => {
        const file = this.#file(lun)
        if (file?.dirty !== true) return
        const number = ++lun.writes
        for (const { offset } of compare(lun, file)) lun.applied[offset / SECTOR_BYTES] = number
      })
    }
  }

  /** Called before the power goes. */
  #powerLoss(storage: string): void {
    const { sim } = this.#world
    const process = sim.host(storage).process(storage)
    const suspects: Suspect[] = []
    for (const lun of this.#luns.values()) {
      if (lun.storage !== storage) continue
      // What a paused process did is not all on record.
      if (process?.paused === true) continue
      const file = this.#file(lun)
      if (file?.dirty === true) suspects.push(...compare(lun, file))
    }
    // When the power has gone and the disk is what it is.
    if (suspects.length > 0) sim.after(0, () => this.#report(suspects))
  }

  #file({ storage, name, path }: Lun): SparseFile | null {
    return lunPath(this.#world, storage, name) === path ? lunFile(this.#world, storage, name) : null
  }

  #report(suspects: readonly Suspect[]): void {
    for (const { lun, file, offset, former } of suspects) {
      if (!same(file.read(offset, SECTOR_BYTES), former)) continue
      this.#world.sim.emit({
        level: 'decision',
        kind: 'storage.lost',
        volume: lun.name,
        body: { storage: lun.storage, offset, length: SECTOR_BYTES },
      })
    }
  }
}

/** What a storage's disk holds of a LUN; null when there is no such LUN. */
export function lunFile(world: World, storage: string, lun: string): SparseFile | null {
  const external = world.external.file(storage)
  if (external !== null) return external
  const path = lunPath(world, storage, lun)
  return path === null ? null : world.sim.host(storage).disk.file(storage, path)
}

/** In the storage's directory; an external one has none. */
export function lunPath(world: World, storage: string, lun: string): string | null {
  const marks = world.sim.host(storage).disk.directory(storage).store.get(`lun/${lun}`) as { id: string } | undefined
  return marks === undefined ? null : `${LUN_DIRECTORY}/${marks.id}.data`
}

/** The sectors that are acknowledged and shown, but not durable. */
function compare(lun: Lun, file: SparseFile): Suspect[] {
  const durable = file.clone()
  durable.powerLost('lost', null)
  const suspects: Suspect[] = []
  for (let piece = 0; piece < lun.applied.length; piece += PIECE_SECTORS) {
    const promised: number[] = []
    for (let sector = piece; sector < piece + PIECE_SECTORS; sector++) {
      const number = lun.acknowledged[sector] ?? 0
      if (number > 0 && number === lun.applied[sector]) promised.push(sector)
    }
    if (promised.length === 0) continue
    const shown = file.read(piece * SECTOR_BYTES, PIECE_SECTORS * SECTOR_BYTES)
    const kept = durable.read(piece * SECTOR_BYTES, PIECE_SECTORS * SECTOR_BYTES)
    if (same(shown, kept)) continue
    for (const sector of promised) {
      const at = (sector - piece) * SECTOR_BYTES
      const former = kept.subarray(at, at + SECTOR_BYTES)
      if (!same(shown.subarray(at, at + SECTOR_BYTES), former)) {
        suspects.push({ lun, file, offset: sector * SECTOR_BYTES, former })
      }
    }
  }
  return suspects
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
