// Decisions about who holds a disk. Placement epochs only rise; a migration reserves the epoch its commit would raise, and
// an abort burns it.

import type { Disk, Entry, Holder } from '../format/metadata.ts'
import { type Decision, done, refused } from './decide.ts'
import { findDisk, grantOf, missing, tellSize } from './decide-disks.ts'
import { atBarrier } from './decide-snapshots.ts'
import { beingCopied } from './decide-sync.ts'
import { isClaimant } from './holding.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import type { OwnerState } from './state.ts'

export function attach(state: OwnerState, body: VolumeBody<'volume.attach'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return missing(body.disk)
  const wait = slotReady(state, body.host) ?? beingCopied(state, disk) ?? atBarrier(state, disk)
  if (wait !== null) return wait
  const { holder, reserved } = disk
  const claimant: Holder = { vm: body.vm, host: body.host, hostEpoch: body.hostEpoch, epoch: body.epoch }

  if (isClaimant(holder, body) && holder?.hostEpoch === body.hostEpoch) return done(grantOf(state, disk))
  if (isClaimant(reserved, body)) {
    if (!body.committed) return refused(attached(disk, reserved!))
    return done(grantOf(state, disk), [{ type: 'committed', disk: disk.id }])
  }
  if (disk.vm === body.vm && body.epoch < disk.leastEpoch) return refused(stale(disk, body.epoch))
  if (reserved !== null && body.epoch <= reserved.epoch) return refused(attached(disk, reserved))
  // A higher placement epoch of the same VM: the coordinator gives one out only when the older instance is surely dead
  // (fenced and waited out), or has handed over; what it did is drained by then.
  const succeeds = holder !== null && holder.vm === body.vm && body.epoch > holder.epoch
  const same = holder !== null && holder.host === body.host && holder.vm === body.vm
  if (holder !== null && !succeeds && !same) return refused(attached(disk, holder))
  if (same && holder.hostEpoch > body.hostEpoch) return refused(stale(disk, body.epoch))
  const entries: Entry[] = []
  if (reserved !== null) entries.push({ type: 'burnt', disk: disk.id, epoch: reserved.epoch })
  entries.push({ type: 'attached', disk: disk.id, holder: claimant })
  return done(grantOf(state, disk), entries)
}

export function reserve(state: OwnerState, body: VolumeBody<'volume.reserve'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return missing(body.disk)
  const wait = slotReady(state, body.host) ?? atBarrier(state, disk)
  if (wait !== null) return wait
  const { holder, reserved } = disk
  if (isClaimant(holder, body)) return done({})
  if (isClaimant(reserved, body) && reserved?.hostEpoch === body.hostEpoch) return done({})
  if (holder === null) {
    return refused(
      refuse('not-attached', `disk ${disk.name} is attached nowhere: attach it instead`, { where: disk.name }),
    )
  }
  if (body.epoch < disk.leastEpoch || body.epoch <= holder.epoch || holder.vm !== body.vm) {
    return refused(stale(disk, body.epoch))
  }
  if (reserved !== null && body.epoch <= reserved.epoch) return refused(attached(disk, reserved))
  // The migration before is over for the coordinator, and its word is on its way here: if it was committed, the disk is that one's.
  if (reserved !== null) return { type: 'wait', for: 'reservation', effects: [] }
  const target: Holder = { vm: body.vm, host: body.host, hostEpoch: body.hostEpoch, epoch: body.epoch }
  // It hands over what it knows, and that must be what the target was told.
  return done({}, [{ type: 'reserved', disk: disk.id, holder: target }], tellSize(disk, disk))
}

export function commit(state: OwnerState, body: VolumeBody<'volume.commit'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return missing(body.disk)
  if (disk.reserved?.epoch === body.epoch) return done({}, [{ type: 'committed', disk: disk.id }])
  if (disk.holder?.epoch === body.epoch) return done({})
  if (body.epoch < disk.leastEpoch) return refused(stale(disk, body.epoch))
  return refused(
    refuse('not-reserved', `disk ${disk.name} has no reservation at epoch ${body.epoch}`, { where: disk.name }),
  )
}

/**
 * Also where nothing is reserved: a reservation may still be on its way, and must find its epoch burnt. One of an earlier migration
 * stands: that may have been committed, and its target not have said so yet.
 */
export function abort(state: OwnerState, body: VolumeBody<'volume.abort'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return missing(body.disk)
  if (disk.holder?.epoch === body.epoch) {
    return refused(
      refuse('already-committed', `disk ${disk.name} has been handed over at epoch ${body.epoch}`, {
        where: disk.name,
      }),
    )
  }
  if (body.epoch < disk.leastEpoch && disk.reserved?.epoch !== body.epoch) return done({})
  return done({}, [{ type: 'burnt', disk: disk.id, epoch: body.epoch }])
}

/**
 * What is not held by that host at that epoch is detached from it already. The epoch is used up: an attachment that was asked for
 * twice, and comes for the second time only now, would hold the disk for nobody.
 */
export function detach(state: OwnerState, body: VolumeBody<'volume.detach'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null || !isClaimant(disk.holder, body)) return done({ detached: false })
  const { epoch } = disk.holder!
  return done({ detached: true }, [
    { type: 'detached', disk: disk.id },
    { type: 'burnt', disk: disk.id, epoch },
  ])
}

/** A host attaches nothing without a slot, nor while its slot is being recovered. */
function slotReady(state: OwnerState, host: string): Decision | null {
  if (state.recovering.has(host)) return { type: 'wait', for: 'slot', effects: [] }
  if (state.metadata.slots.has(host)) return null
  return refused(
    refuse('host-unknown', `host ${host} has not opened this volume`, { where: host, hint: 'open it first' }),
  )
}

function attached(disk: Disk, holder: Holder): ReturnType<typeof refuse> {
  return refuse(
    'attached',
    `disk ${disk.name} is attached to ${holder.vm} on ${holder.host} at epoch ${holder.epoch}`,
    {
      where: disk.name,
      hint: 'detach it there, or fence and release that host',
    },
  )
}

function stale(disk: Disk, epoch: number): ReturnType<typeof refuse> {
  return refuse('stale-epoch', `disk ${disk.name} takes placement epochs from ${disk.leastEpoch}, not ${epoch}`, {
    where: disk.name,
    hint: 'the VM has been placed anew: this instance must stop',
  })
}

const HOLDERS: ReadonlySet<Entry['type']> = new Set(['attached', 'committed', 'burnt', 'detached', 'host-released'])

/** Who has a disk, or is to have it, is another by this: who waits for a reservation's outcome may have waited for that. */
export function changesHolders({ type }: Entry): boolean {
  return HOLDERS.has(type)
}
