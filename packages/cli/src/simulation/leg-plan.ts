// How operators change volumes' legs in some seeds while guests work: a leg is taken away and a second one given again, on the
// same storage or on a spare one ("the lost subsystem is replaced by a new one"), or a volume that began with one leg is mirrored.
// Drawn from a stream of its own, so that the rest of a plan is the same with and without it.

import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import type { FaultKind } from './faults.ts'
import type { PlannedVolume, TimedFault } from './plan.ts'

export interface PlannedLegChange {
  readonly volume: string
  /** Or as soon as the change of that volume before it is done. */
  readonly atMs: number
  /** The storage whose leg is taken away; null: the volume has one leg only. */
  readonly takes: string | null
  /** For so long the volume is left with one leg. */
  readonly aloneMs: number
  /** Where its second leg is made. */
  readonly gives: string
  /** After so long it is taken away again if it is still catching up, and then made anew; null: it is left alone. */
  readonly regretsMs: number | null
}

export interface LegPlan {
  /** Storages that no volume has a leg on in the beginning. */
  readonly spares: readonly string[]
  readonly volumes: readonly PlannedVolume[]
  /** Of each volume in the order in which they are to be done. */
  readonly changes: readonly PlannedLegChange[]
  /** Around the changes: what strikes at other times says little about them. */
  readonly faults: readonly TimedFault[]
}

const CHANCE = 0.15
const SPARE = 'san-c'
/** Of one volume. */
const CHANGES_MAX = 3
/** Faults around one change, at most. */
const NEAR_MAX = 2
const ALONE_MS = [200, 12_000] as const
/** A full copy takes a second or so. */
const REGRETS_MS = [5, 1_500] as const
/** The storage is gone for so long when its leg is given up and replaced: longer than a leg's deadline. */
const LOST_BEFORE_MS = 6_000

export interface LegRoom {
  /** Absent: in some seeds. */
  readonly wanted: boolean | undefined
  readonly hosts: readonly string[]
  readonly storages: readonly string[]
  /** Without epochs, and each with room for one volume: who has a leg there may get it back. */
  readonly external: readonly string[]
  readonly volumes: readonly PlannedVolume[]
  /** Of faults that may strike around the changes. */
  readonly kinds: readonly FaultKind[]
  readonly safetyMs: number
}

export function drawLegPlan(random: SimRandom, room: LegRoom): LegPlan {
  const { hosts, storages, external, safetyMs } = room
  const none: LegPlan = { spares: [], volumes: room.volumes, changes: [], faults: [] }
  if (!(room.wanted ?? random.chance(CHANCE))) return none
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)]!
  const between = ([least, most]: readonly [number, number]): number => least + random.float() * (most - least)
  const spares = random.chance(0.6) ? [SPARE] : []
  const all = [...storages, ...spares]
  const single = random.chance(0.3) ? pick(room.volumes).name : null
  const volumes = room.volumes.map(volume =>
    volume.name === single ? { ...volume, storages: volume.storages.slice(0, 1) } : volume,
  )
  const kinds = room.kinds.filter(kind => kind.external !== true)
  const outage = kinds.find(({ name }) => name === 'storage-outage')
  const changes: PlannedLegChange[] = []
  const faults: TimedFault[] = []
  const strike = (kind: FaultKind, atMs: number, storage: string): void => {
    faults.push({ kind, atMs, host: pick(hosts), storage, lastsMs: between(kind.lasts) })
  }
  volumes.forEach((volume, i) => {
    // One at least; often not both, so that the other's guests have an ordinary run.
    if (volume.name !== single && i > 0 && random.chance(0.5)) return
    const count = 1 + random.int(CHANGES_MAX)
    const own = volume.storages.filter(storage => external.includes(storage))
    let legs = volume.storages
    for (let n = 0; n < count; n++) {
      const atMs = 8_000 + ((safetyMs - 30_000) * (n + random.float())) / count
      const takes = legs.length > 1 ? pick(legs) : null
      const stays = legs.filter(storage => storage !== takes)
      const aloneMs = between(ALONE_MS)
      const gives = pick([...all, ...own].filter(storage => !stays.includes(storage)))
      const regretsMs = random.chance(0.3) ? between(REGRETS_MS) : null
      changes.push({ volume: volume.name, atMs, takes, aloneMs, gives, regretsMs })
      legs = [...stays, gives]
      if (takes !== null && !own.includes(takes) && outage !== undefined && random.chance(0.3)) {
        strike(outage, Math.max(0, atMs - LOST_BEFORE_MS), takes)
      }
      for (let near = kinds.length === 0 ? 0 : random.int(NEAR_MAX + 1); near > 0; near--) {
        strike(pick(kinds), atMs + random.float() * (aloneMs + 4_000), pick(all))
      }
    }
  })
  return { spares, volumes, changes, faults }
}
