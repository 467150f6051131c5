// Bytes that a leg's medium changes by itself, and the ground truth of them: where, what was there, and what is there now.
// Only what no guest ever looks at rots (the page in front of a guest's log): there are no checksums over guests' data, so
// whoever read it would be given it, and that is not survived (docs/FAULTS.md). The operators know of it after a while and
// name the good leg; until their scrub is done a difference that rot alone explains is nobody's fault. A scrub that gives
// the rotten bytes to the good leg is told to rule MIR1 as `mirror.spoiled`.

import { LOG_START } from '@stellwerk/agent/guests/ledger-format.ts'
import type { VolumeRecord } from '@stellwerk/coordinator/core/state.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import { loadLeg } from '@stellwerk/csv/owner/load.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { SECTOR_BYTES } from '@stellwerk/runtime/sim/sparse-file.ts'
import { silentCorruption } from './media-faults.ts'
import { filesInSync, type LegFile, unlessTorn } from './mirror-witness.ts'
import type { World } from './world.ts'

/** Of one volume at a time. */
const SPOTS_MAX = 8

export interface RottenSpot {
  readonly leg: string
  /** All legs of the volume then: one that is taken away is gone with its rot, or leaves it as the volume's only copy. */
  readonly legs: readonly string[]
  readonly address: number
  readonly former: Uint8Array
  readonly rotten: Uint8Array
  /** A scrub that was told the good leg has compared everything since: it explains nothing any more. */
  scrubbed: boolean
}

export class Rot {
  readonly #world: World
  /** Of each volume: all on one leg, since an operator names one good leg for the whole of it. */
  readonly #spots = new Map<string, readonly RottenSpot[]>()

  constructor(world: World) {
    this.#world = world
    world.sim.onRecord(record => this.#observe(record))
  }

  /**
   * A sector of each mirror's leg on that storage rots, where all legs are in sync. `then`: with the volume's name. Resolves when
   * all that does has.
   */
  async begin(storage: string, random: SimRandom, then: (volume: string) => void): Promise<void> {
    const rotting: Promise<void>[] = []
    for (const volume of this.#world.coordinator?.state.volumes.values() ?? []) {
      const files = filesInSync(this.#world, volume)
      const leg = volume.legs.find(each => each.storage === storage)
      const spots = this.live(volume)
      if (leg === undefined || files.length < 2 || files.length < volume.legs.length) continue
      if (spots.length >= SPOTS_MAX || spots.some(spot => spot.leg !== leg.leg)) continue
      const bad = files.find(({ id }) => id === leg.leg)
      // Nothing changes on the way: what reads these files waits for nothing, so all of it happens at this instant.
      const rots = quietSectors(files).then(sectors => {
        if (bad === undefined || sectors.length === 0) return
        const address = sectors[random.int(sectors.length)]!
        const former = bad.file.read(address, SECTOR_BYTES)
        silentCorruption(this.#world, { storage, lun: leg.lun, offset: address })
        const rotten = bad.file.read(address, SECTOR_BYTES)
        const legs = volume.legs.map(each => each.leg)
        this.#spots.set(volume.name, [...spots, { leg: leg.leg, legs, address, former, rotten, scrubbed: false }])
        then(volume.name)
      })
      rotting.push(rots)
    }
    await Promise.all(rotting)
  }

  /** Those that are still there, on a leg that is in sync beside another. */
  live(volume: VolumeRecord): readonly RottenSpot[] {
    const known = this.#of(volume)
    if (known.length === 0) return known
    const files = filesInSync(this.#world, volume)
    // A leg that is catching up, or away, comes back with what it has.
    if (files.length < volume.legs.length) return known.filter(spot => !spot.scrubbed)
    const live = known.filter(spot => files.every(file => holds(file, spot)))
    this.#spots.set(volume.name, live)
    return live
  }

  /** Those that are still of its legs. */
  #of(volume: VolumeRecord): readonly RottenSpot[] {
    const known = this.#spots.get(volume.name) ?? []
    const left = known.filter(({ legs }) => legs.every(id => volume.legs.some(({ leg }) => leg === id)))
    if (left.length < known.length) this.#spots.set(volume.name, left)
    return left
  }

  /** Whether every sector in which the legs differ there is as rot has left it. */
  explains(volume: string, files: readonly LegFile[], offset: number, length: number): boolean {
    const spots = this.#spots.get(volume) ?? []
    if (spots.length === 0) return false
    for (let at = offset; at < offset + length; at += SECTOR_BYTES) {
      const [first, ...others] = files.map(({ file }) => file.read(at, SECTOR_BYTES))
      if (others.every(other => same(first!, other))) continue
      const spot = spots.find(({ address }) => address === at)
      if (spot === undefined || spot.scrubbed || !files.every(file => holds(file, spot))) return false
    }
    return true
  }

  #observe({ kind, volume: name, body }: TraceRecord): void {
    if (kind !== 'scrub.found') return
    const volume = this.#world.coordinator?.state.volumes.get(name ?? '')
    if (volume === undefined) return
    const { address, length } = body as { address: number; length: number }
    const within = this.#of(volume).filter(spot => spot.address >= address && spot.address < address + length)
    if (within.length === 0) return
    const files = filesInSync(this.#world, volume)
    const spoiled = within.filter(({ leg, address: at, rotten }) =>
      files.some(({ id, file }) => id !== leg && same(file.read(at, SECTOR_BYTES), rotten)),
    )
    if (spoiled.length === 0) return
    const { sim } = this.#world
    const places = spoiled.map(spot => spot.address)
    sim.emit({
      level: 'decision',
      kind: 'mirror.spoiled',
      volume: volume.name,
      body: { generation: volume.generation, places },
    })
  }
}

function holds({ id, file }: LegFile, { leg, address, former, rotten }: RottenSpot): boolean {
  return same(file.read(address, SECTOR_BYTES), id === leg ? rotten : former)
}

/** Sectors that no guest reads or writes, beside some that one has written; the same on every leg. */
async function quietSectors(files: readonly LegFile[]): Promise<number[]> {
  const loaded = await unlessTorn(() => loadLeg(files[0]!, {}))
  if (loaded === null) return []
  const { metadata, layout } = loaded
  const sectors = new Set<number>()
  for (const disk of metadata.disks.values()) {
    const extent = disk.map.get(0)
    if (extent === undefined) continue
    const start = extentAddress(layout, extent)
    // A hole has no medium that could rot.
    const isWritten = files.every(({ file }) => file.read(start + LOG_START, SECTOR_BYTES).some(byte => byte !== 0))
    if (!isWritten) continue
    for (let at = start; at < start + LOG_START; at += SECTOR_BYTES) {
      const [first, ...others] = files.map(({ file }) => file.read(at, SECTOR_BYTES))
      if (others.every(other => same(first!, other))) sectors.add(at)
    }
  }
  return [...sectors].sort((a, b) => a - b)
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
