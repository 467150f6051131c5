// Faults of storages' media as seeds draw them: rot, sectors that cannot be read, writes that fail, a disk without room. Of
// mirrors and of volumes of one leg alike: what these promise is an error, never a false success, and no loss of what is near.

import { LOG_START } from '@stellwerk/agent/guests/ledger-format.ts'
import { planLayout } from '@stellwerk/csv/format/layout.ts'
import type { DiskFault } from '@stellwerk/runtime/sim/disk-faults.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { PAGE_BYTES, SECTOR_BYTES } from '@stellwerk/runtime/sim/sparse-file.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { lunFile, lunPath } from './durability.ts'
import type { FaultContext, FaultKind } from './faults.ts'
import { latentSectorError } from './media-faults.ts'
import { VOLUME_BYTES, type World } from './world.ts'

/** Of one storage at once. */
const BAD_SECTORS_MAX = 24
/** Where a guest's log lies in its disk's first extent, and its busy scratch area around that one's end. */
const LOG_BYTES = MIB
const SCRATCH_BYTES = 32 * KIB
/** So many places are looked at for one that holds something: a hole has no sectors that could be bad. */
const TRIES = 10

const LAYOUT = planLayout({ volumeId: 'any', clusterId: 'any', volumeBytes: VOLUME_BYTES })

/** Somewhere in guests' disks, where there is something: in their logs, or where they scratch. */
function busySector(world: World, storage: string, lun: string, random: SimRandom): number | null {
  const file = lunFile(world, storage, lun)
  for (let tries = 0; tries < TRIES && file !== null; tries += 1) {
    const extent = LAYOUT.dataOffset + random.int(LAYOUT.extentCount) * LAYOUT.extentBytes
    const log = LOG_START + random.int(LOG_BYTES)
    const within = random.chance(0.6)
      ? log
      : random.chance(0.5)
        ? random.int(SCRATCH_BYTES)
        : LAYOUT.extentBytes - 1 - random.int(SCRATCH_BYTES)
    const at = extent + within - (within % SECTOR_BYTES)
    if (file.read(at, SECTOR_BYTES).some(byte => byte !== 0)) return at
  }
  return null
}

function lunsOf(world: World, storage: string): string[] {
  const volumes = [...(world.coordinator?.state.volumes.values() ?? [])]
  return volumes.flatMap(({ legs }) => legs.filter(leg => leg.storage === storage).map(leg => leg.lun))
}

function sectorErrors({ world, storage, random, struck }: FaultContext): () => void {
  const luns = lunsOf(world, storage)
  const faults: DiskFault[] = []
  for (let i = 1 + random.int(BAD_SECTORS_MAX); i > 0 && luns.length > 0; i -= 1) {
    const lun = luns[random.int(luns.length)]!
    const offset = busySector(world, storage, lun, random)
    if (offset !== null) faults.push(latentSectorError(world, { storage, lun, offset }))
  }
  if (faults.length > 0) struck()
  return () => {
    for (const fault of faults) fault.heal()
  }
}

export const MEDIA_FAULTS: readonly FaultKind[] = [
  {
    // Long before it ends somebody is told, and names the good leg.
    name: 'disk-rot',
    lasts: [500, 8_000],
    begin: ({ world, storage, random }) => {
      const volumes: string[] = []
      const looksFirst = random.chance(0.3)
      world.rot.begin(storage, random, volume => volumes.push(volume))
      return () => {
        for (const volume of volumes) world.scrubs.call(volume, looksFirst)
      }
    },
  },
  {
    // Of a volume of one leg, too: its guests are told of these sectors, and of no others, until the drive has recovered them.
    name: 'sector-errors',
    lasts: [2_000, 15_000],
    mayMiss: true,
    begin: sectorErrors,
  },
  {
    // Writes fail for as long as it lasts, whatever becomes of the leg, and whether it is the last one or not.
    name: 'write-errors',
    lasts: [300, 8_000],
    mayMiss: true,
    begin: ({ world, storage, random, struck }) => {
      const chance = random.chance(0.5) ? 1 : 0.1 + random.float() * 0.9
      const faults = lunsOf(world, storage).flatMap(lun => {
        const path = lunPath(world, storage, lun)
        if (path === null) return []
        const { disk } = world.sim.host(storage)
        return disk.fault({ process: storage, path, operation: ['write', 'punch'], verdict: 'EIO', chance })
      })
      if (faults.length > 0) struck()
      return () => {
        for (const fault of faults) fault.heal()
      }
    },
  },
  {
    // What is there may be written again; for more there is no room.
    name: 'disk-full',
    lasts: [2_000, 15_000],
    begin: ({ world, storage, random }) => {
      const { disk } = world.sim.host(storage)
      disk.setQuota(disk.allocatedBytes + random.int(64) * PAGE_BYTES)
      return () => disk.setQuota(Number.POSITIVE_INFINITY)
    },
  },
]
