// What a storage's medium does by itself, and tells nobody: bytes that change, and sectors that cannot be read until they are
// written anew. Seeds draw them (media-fault-kinds.ts), scenarios place them.

import type { DiskFault } from '@stellwerk/runtime/sim/disk-faults.ts'
import { SECTOR_BYTES } from '@stellwerk/runtime/sim/sparse-file.ts'
import { lunFile, lunPath } from './durability.ts'
import type { World } from './world.ts'

export interface MediumPlace {
  readonly storage: string
  readonly lun: string
  readonly offset: number
}

/** Every bit of a sector is another one from now on, and reads say nothing of it. */
export function silentCorruption(world: World, { storage, lun, offset }: MediumPlace): void {
  const file = lunFile(world, storage, lun)
  if (file === null) throw new RangeError(`${storage} has no LUN ${lun}`)
  file.corrupt(
    offset,
    file.read(offset, SECTOR_BYTES).map(byte => byte ^ 0xff),
  )
}

/** A sector that reads as an error until it is written anew. */
export function latentSectorError(world: World, { storage, lun, offset }: MediumPlace): DiskFault {
  const path = lunPath(world, storage, lun)
  if (path === null) throw new RangeError(`${storage} has no LUN ${lun}`)
  return world.sim.host(storage).disk.fault({
    process: storage,
    path,
    operation: 'read',
    range: { offset, length: SECTOR_BYTES },
    untilWritten: true,
    verdict: 'EIO',
  })
}
