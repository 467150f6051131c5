// The ground truth of rule MIR1: every now and then, what the in-sync legs' disks hold is compared wherever no slot marks a
// write; and once everything has been stopped in order, so that nothing is in flight and nothing is marked, all of it is,
// and each volume proved as `volume check` does. Looks at the files themselves: nobody's word is taken.

import { type BlockDevice, BlockError, type Io } from '@stellwerk/block/device.ts'
import type { VolumeRecord } from '@stellwerk/coordinator/core/state.ts'
import { checkVolume } from '@stellwerk/csv/check.ts'
import { Sealer } from '@stellwerk/csv/format/checksum.ts'
import type { Leg } from '@stellwerk/csv/format/device-io.ts'
import { extentAddress, type Layout, slotAddress } from '@stellwerk/csv/format/layout.ts'
import type { Metadata } from '@stellwerk/csv/format/metadata.ts'
import { readIntent } from '@stellwerk/csv/format/slot.ts'
import { findSuperblock } from '@stellwerk/csv/format/superblock.ts'
import { loadLeg } from '@stellwerk/csv/owner/load.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { PAGE_BYTES, type SparseFile } from '@stellwerk/runtime/sim/sparse-file.ts'
import { lunFile } from './durability.ts'
import type { World } from './world.ts'

/** How often legs are compared while guests write. */
const WATCH_EVERY_MS = 1_000

const LOOK: Io = { origin: 'witness', deadlineAt: null }

export interface LegFile extends Leg {
  readonly file: SparseFile
}

/** Puts `mirror.compared` on record whenever legs that are in sync differ where nothing is marked. */
export function watchLegs(world: World): void {
  const { sim } = world
  const watches = new Map<string, MirrorWatch>()
  const watch = (): void => {
    for (const volume of world.coordinator?.state.volumes.values() ?? []) {
      const files = filesInSync(world, volume)
      if (files.length < 2) continue
      const rotten = (at: number): boolean => world.rot.explains(volume.name, files, at, PAGE_BYTES)
      const its = watches.get(volume.name) ?? new MirrorWatch()
      watches.set(volume.name, its)
      // Nothing changes on the way: what reads these files waits for nothing, so all of it happens at this instant.
      void its.differing(files, rotten).then(differing => {
        if (differing.length > 0) report(world, volume, differing)
      })
    }
    sim.after(WATCH_EVERY_MS, watch)
  }
  sim.after(WATCH_EVERY_MS, watch)
}

/** Looks at one mirror again and again, at no more of it than may have changed. */
class MirrorWatch {
  #layout: Layout | null = null
  #files: readonly LegFile[] = []
  /** Addresses of the pages that differed at the last look. */
  #differing: readonly number[] = []
  /** Differences that are in no disk: what was given back may differ until it is zeroed and granted anew. */
  #unmapped = ''

  /** Addresses of the pages of disks that differ though no slot marks them, nor has any of them rotted. */
  async differing(files: readonly LegFile[], rotten: (at: number) => boolean): Promise<number[]> {
    const layout = await this.#layoutOf(files[0]!)
    if (layout === null) return []
    const differing = this.#look(files, layout)
    if (differing.length === 0) return []
    const marked = await markedIn(files, layout)
    const unmarked = differing.filter(at => marked?.has(Math.floor(at / layout.regionBytes)) === false && !rotten(at))
    if (unmarked.length === 0 || unmarked.join() === this.#unmapped) return []
    const mapped = await mappedOnAll(files, layout)
    const wrong = unmarked.filter(at => mapped?.has(extentStart(layout, at)) === true)
    this.#unmapped = mapped !== null && wrong.length === 0 ? unmarked.join() : ''
    return wrong
  }

  /** As `differingIn`; only what may have changed since the last look is compared. */
  #look(files: readonly LegFile[], layout: Layout): readonly number[] {
    const changed = new Set(files.flatMap(({ file }) => file.takeChanged()))
    const same = files.length === this.#files.length && files.every(({ file }, i) => file === this.#files[i]?.file)
    this.#files = files
    if (!same) this.#differing = differingIn(files, layout)
    else {
      for (const at of this.#differing) changed.add(at)
      const [first, ...others] = files
      this.#differing = [...changed]
        .filter(at => isData(layout, at) && others.some(({ file }) => first!.file.pageDiffers(file, at)))
        .sort((a, b) => a - b)
    }
    return this.#differing
  }

  async #layoutOf({ device }: LegFile): Promise<Layout | null> {
    this.#layout ??= await unlessTorn(async () => (await findSuperblock(device, {}, LOOK)).superblock.layout)
    return this.#layout
  }
}

/** Regions that some slot marks on some leg; null: a slot is torn, and its owner will take it for all that its host held. */
async function markedIn(files: readonly LegFile[], layout: Layout): Promise<ReadonlySet<number> | null> {
  const sealer = new Sealer(layout.volumeId)
  const marked = new Set<number>()
  for (const { device } of files) {
    for (let slot = 0; slot <= layout.slotCount; slot++) {
      const { regions, damagedSectors } = await readIntent(device, slotAddress(layout, slot), sealer, LOOK)
      if (damagedSectors.length > 0) return null
      for (const region of regions) marked.add(region)
    }
  }
  return marked
}

/** Addresses of the extents that belong to a disk by what each leg says; null while that is being written, or torn. */
async function mappedOnAll(files: readonly LegFile[], layout: Layout): Promise<ReadonlySet<number> | null> {
  const each: Set<number>[] = []
  for (const file of files) {
    const loaded = await unlessTorn(() => loadLeg(file, {}))
    if (loaded === null) return null
    each.push(new Set(mappedExtents(loaded.metadata).map(extent => extentAddress(layout, extent))))
  }
  const [first, ...others] = each
  return new Set([...(first ?? [])].filter(address => others.every(other => other.has(address))))
}

export async function unlessTorn<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof StellwerkError || error instanceof BlockError) return null
    throw error
  }
}

/** Everything is stopped. Puts `mirror.compared` on record for each mirrored volume; gives what a check found wrong. */
export async function compareLegs(world: World): Promise<string[]> {
  const wrong: string[] = []
  for (const volume of world.coordinator?.state.volumes.values() ?? []) wrong.push(...(await compare(world, volume)))
  return wrong
}

async function compare(world: World, volume: VolumeRecord): Promise<string[]> {
  const files = filesInSync(world, volume)
  const [first] = files
  if (first === undefined) return [`${volume.name} has no in-sync leg whose file is there`]
  const { findings } = await checkVolume(files)
  const damage = findings.filter(({ severity }) => severity !== 'degraded')
  if (files.length > 1 && damage.length === 0) {
    const { metadata, layout } = await loadLeg(first, {})
    const mapped = new Set(mappedExtents(metadata).map(extent => extentAddress(layout, extent)))
    const differing = differingIn(files, layout).filter(at => mapped.has(extentStart(layout, at)))
    report(world, volume, differing)
  }
  return damage.map(({ leg, code, where, message }) => `${volume.name} ${leg ?? ''} ${where}: ${code}: ${message}`)
}

function report(world: World, volume: VolumeRecord, differing: readonly number[]): void {
  world.sim.emit({
    level: 'decision',
    kind: 'mirror.compared',
    volume: volume.name,
    body: { generation: volume.generation, differing: [...differing] },
  })
}

/** Addresses of the pages in extents that are not the same on every leg, ascending. */
function differingIn(files: readonly LegFile[], layout: Layout): number[] {
  const [first, ...others] = files
  const { dataOffset, extentBytes, extentCount } = layout
  const length = extentCount * extentBytes
  const differing = others.flatMap(({ file }) => first!.file.differingPages(file, dataOffset, length))
  return [...new Set(differing)].sort((a, b) => a - b)
}

function isData({ dataOffset, extentBytes, extentCount }: Layout, address: number): boolean {
  return address >= dataOffset && address < dataOffset + extentCount * extentBytes
}

function extentStart({ dataOffset, extentBytes }: Layout, address: number): number {
  return address - ((address - dataOffset) % extentBytes)
}

function mappedExtents(metadata: Metadata): number[] {
  return [...metadata.disks.values()].flatMap(disk => [...disk.map.values()])
}

export function filesInSync(world: World, volume: VolumeRecord): LegFile[] {
  return volume.legs
    .filter(leg => leg.role === 'in-sync')
    .flatMap(({ leg, storage, lun }) => {
      const file = lunFile(world, storage, lun)
      return file === null ? [] : [{ id: leg, file, device: deviceOn(file) }]
    })
}

/** To be read only. */
function deviceOn(file: SparseFile): BlockDevice {
  const refuse = (): Promise<never> => Promise.reject(new BlockError('EPERM', 'none', 'this disk is only looked at'))
  return {
    size: file.size,
    limits: { minimum: 512, preferred: 4096, maximum: 32 * 1024 * 1024 },
    caps: {
      readOnly: true,
      flush: true,
      fua: true,
      trim: false,
      zero: false,
      fastZero: false,
      blockStatus: false,
      multiConn: true,
    },
    read: async (offset, length) => [file.read(offset, length)],
    write: refuse,
    flush: async () => undefined,
    zero: refuse,
    trim: refuse,
    onState: () => undefined,
    close: async () => undefined,
  }
}
