// Asks the volume's owner for a disk and its whole map, page by page, and waits until the mirror serves in the generation in
// which the owner gave that out: what was granted in it is on no leg that is away since.

import type { DiskGrant } from '@stellwerk/protocol/messages/volume.ts'
import type { HostVolume } from './host-volume.ts'

export interface DiskClaim {
  /** Its id, or its name. */
  readonly disk: string
  readonly vm: string
  /** The VM's placement epoch. */
  readonly epoch: number
  /** The epoch was raised by the coordinator's commit of a migration to here. */
  readonly committed?: boolean
}

export interface AttachedDisk {
  readonly grant: DiskGrant
  /** What did not fit the grant. */
  readonly runs: readonly number[]
  readonly shared: readonly number[]
}

export async function askForDisk(volume: HostVolume, claim: DiskClaim): Promise<AttachedDisk> {
  const { volume: name, host, hostEpoch, owner } = volume.options
  const { disk, vm, epoch, committed = false } = claim
  const holding = { volume: name, disk, host, epoch, committed }
  const grant = await owner('volume.attach', { ...holding, vm, hostEpoch })
  let { generation } = grant
  const runs: number[] = []
  const shared: number[] = []
  for (let from = grant.next; from !== null; ) {
    const page = await owner('volume.map', { ...holding, from })
    runs.push(...page.runs)
    shared.push(...page.shared)
    generation = Math.max(generation, page.generation)
    from = page.next
  }
  await volume.reached(generation)
  return { grant, runs, shared }
}
