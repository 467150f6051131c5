// Who may change a disk's map: the host that holds it, at its placement epoch; or the reserved target of a migration that
// shows the coordinator's commit, which then counts as commit here too.

import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Disk, Entry, Holder } from '../format/metadata.ts'
import { findDisk } from './decide-disks.ts'
import { refuse } from './refusal.ts'
import type { OwnerState } from './state.ts'

export interface Claim {
  readonly disk: string
  readonly host: string
  readonly epoch: number
  readonly committed: boolean
}

export type Held =
  /** `entries`: what must be journaled with it. */
  { readonly disk: Disk; readonly entries: readonly Entry[] } | { readonly error: StellwerkError }

export function holding(state: OwnerState, claim: Claim): Held {
  const disk = findDisk(state, claim.disk)
  if (disk === null) {
    return { error: refuse('disk-missing', `there is no disk ${claim.disk} on this volume`, { where: claim.disk }) }
  }
  if (isClaimant(disk.holder, claim)) return { disk, entries: [] }
  if (claim.committed && isClaimant(disk.reserved, claim)) {
    return { disk, entries: [{ type: 'committed', disk: disk.id }] }
  }
  if (claim.epoch < disk.leastEpoch) {
    return {
      error: refuse('stale-epoch', `disk ${disk.name} is at placement epoch ${disk.leastEpoch}, not ${claim.epoch}`, {
        where: disk.name,
        hint: 'the VM has been placed anew: this instance must stop',
      }),
    }
  }
  return {
    error: refuse('not-attached', `disk ${disk.name} is not attached to ${claim.host} at epoch ${claim.epoch}`, {
      where: disk.name,
    }),
  }
}

export function isClaimant(holder: Holder | null, claim: { readonly host: string; readonly epoch: number }): boolean {
  return holder !== null && holder.host === claim.host && holder.epoch === claim.epoch
}
