// Faults of storages' media as seeds draw them: rot, sectors that cannot be read, writes that fail, a disk without room. Of
// mirrors and of volumes of one leg alike: what these promise is an error, never a false success, and no loss of what is near.

import { LOG_START } from '@stellwerk/agent/guests/ledger-format.ts'
import { getU64, viewOf } from '@stellwerk/csv/format/bytes.ts'
import { clusterCopyAddress } from '@stellwerk/csv/format/cluster-copy.ts'
import { RECORD_MAGIC } from '@stellwerk/csv/format/journal.ts'
import { BLOCK_BYTES, checkpointAddress, planLayout, RECORD, SUPERBLOCK_OFFSETS } from '@stellwerk/csv/format/layout.ts'
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
/** Of the sectors that go bad, those in the volume's own metadata. */
const METADATA_CHANCE = 0.15
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

/** What a volume knows of itself; hosts' slots apart. */
const METADATA: readonly (readonly [offset: number, length: number])[] = [
  [LAYOUT.journalOffset, LAYOUT.journalBytes],
  ...SUPERBLOCK_OFFSETS.map(offset => [offset, BLOCK_BYTES] as const),
  ...[0, 1].map(area => [checkpointAddress(LAYOUT, area), LAYOUT.checkpointBytes] as const),
  ...[0, 1].map(area => [clusterCopyAddress(LAYOUT, area), LAYOUT.clusterCopyBytes] as const),
]

/** The first of a block that holds something, in one of these areas; of the journal often the last record's. */
function metadataSector(world: World, storage: string, lun: string, random: SimRandom): number | null {
  const file = lunFile(world, storage, lun)
  const [offset, length] = METADATA[random.int(METADATA.length)]!
  const bytes = file?.read(offset, length) ?? new Uint8Array(0)
  if (offset === LAYOUT.journalOffset && random.chance(0.5)) return lastRecord(bytes)
  const written: number[] = []
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    if (bytes.subarray(at, at + SECTOR_BYTES).some(byte => byte !== 0)) written.push(offset + at)
  }
  return written.length === 0 ? null : written[random.int(written.length)]!
}

/** Where the one of the highest number stands on the volume. */
function lastRecord(ring: Uint8Array): number | null {
  let last: { readonly at: number; readonly sequence: number } | null = null
  for (let at = 0; at < ring.length; at += BLOCK_BYTES) {
    const view = viewOf(ring.subarray(at, at + BLOCK_BYTES))
    if (view.getUint32(RECORD.magic.offset, true) !== RECORD_MAGIC) continue
    const sequence = getU64(view, RECORD.sequence.offset)
    if (last === null || sequence > last.sequence) last = { at, sequence }
  }
  return last === null ? null : LAYOUT.journalOffset + last.at
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
    const sector = random.chance(METADATA_CHANCE) ? metadataSector : busySector
    const offset = sector(world, storage, lun, random)
    if (offset !== null) faults.push(latentSectorError(world, { storage, lun, offset }))
  }
  if (faults.length > 0) struck()
  return () => {
    for (const fault of faults) fault.heal()
  }
}

/** What an owner has put down last cannot be read when the next one comes: the owner dies in the same moment. */
function unreadableJournalEnd(context: FaultContext): () => void {
  const { world, storage, struck } = context
  const faults: DiskFault[] = []
  const killed: string[] = []
  for (const { legs, owner } of world.coordinator?.state.volumes.values() ?? []) {
    const lun = legs.find(leg => leg.storage === storage)?.lun
    const agent = owner === null ? undefined : world.sim.host(owner.host).process(`${owner.host}/agent`)
    const file = lun === undefined ? null : lunFile(world, storage, lun)
    if (owner === null || lun === undefined || agent?.alive !== true || file === null) continue
    const offset = lastRecord(file.read(LAYOUT.journalOffset, LAYOUT.journalBytes))
    if (offset === null) continue
    faults.push(latentSectorError(world, { storage, lun, offset }))
    agent.kill()
    killed.push(owner.host)
  }
  if (faults.length > 0) struck()
  return () => {
    for (const fault of faults) fault.heal()
    for (const host of killed) world.startHost(host)
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
      void world.rot.begin(storage, random, volume => volumes.push(volume))
      return () => {
        for (const volume of volumes) world.scrubs.call(volume, looksFirst)
      }
    },
  },
  {
    // Of a volume of one leg, too: its guests are told of these sectors, and of no others, until the drive has recovered them;
    // and where the journal's last record stands in one of them, no owner opens it before.
    name: 'sector-errors',
    lasts: [2_000, 15_000],
    mayMiss: true,
    begin: sectorErrors,
  },
  {
    // Long enough for another owner to be there before the drive has recovered it.
    name: 'journal-end-unreadable',
    lasts: [6_000, 15_000],
    mayMiss: true,
    begin: unreadableJournalEnd,
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
