// Keeps a volume's journal busy for a moment, for faults that are to strike in the middle of a write of it.

import { KIB } from '@stellwerk/runtime/units.ts'
import type { World } from './world.ts'

/** So many in a row at most: a migration does not take longer. */
const BUSY_WRITES = 100

/** Operators give a disk on that storage a little more again and again, which its owner puts down in the journal. */
export function keepJournalBusy(world: World, storage: string): () => void {
  let left = BUSY_WRITES
  const again = (): void => {
    const state = world.coordinator?.state
    const disks = [...(state?.vms.values() ?? [])].flatMap(vm => vm.disks)
    const disk = disks.find(({ volume }) =>
      state?.volumes.get(volume)?.legs.some(leg => leg.storage === storage && leg.role !== 'stale'),
    )
    if (disk === undefined || left-- <= 0) return
    const { volume } = disk
    world.disks(volume, known => {
      const sizeBytes = known?.find(each => each.disk === disk.disk)?.sizeBytes
      if (sizeBytes === undefined || left <= 0) return
      const body = { volume, disk: disk.disk, sizeBytes: sizeBytes + 4 * KIB }
      world.askOwner(volume, 'volume.resize-disk', body, again)
    })
  }
  again()
  return () => {
    left = 0
  }
}
