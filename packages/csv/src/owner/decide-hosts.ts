// Decisions about hosts: their slots, and what becomes of them when a host was fenced.

import type { HostView } from '@stellwerk/protocol/messages/volume.ts'
import { regionCount, slotAddress } from '../format/layout.ts'
import type { Disk, Entry, Holder } from '../format/metadata.ts'
import { type Decision, done, refused } from './decide.ts'
import { findDisk } from './decide-disks.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import type { Effect, OwnerState } from './state.ts'

export function openHost(state: OwnerState, body: VolumeBody<'volume.open-host'>): Decision {
  if (state.recovering.has(body.host) || state.comparingSlots.has(body.host)) {
    return { type: 'wait', for: 'slot', effects: [] }
  }
  const assigned = state.metadata.slots.get(body.host)
  if (assigned !== undefined) return done(hostView(state, body.volume, assigned))
  const prepared = state.prepared.get(body.host)
  if (prepared !== undefined) {
    return done(hostView(state, body.volume, prepared), [{ type: 'slot-assigned', slot: prepared, host: body.host }])
  }
  if (state.preparing.has(body.host)) return { type: 'wait', for: 'slot', effects: [] }
  const slot = freeSlot(state, body.slot)
  if (slot === null) {
    return refused(
      refuse('no-slot', `the volume has no slot for host ${body.host}`, {
        where: body.host,
        hint: `it was formatted for ${state.metadata.layout.slotCount} hosts, those that have left among them: use a name again, or another volume`,
      }),
    )
  }
  return { type: 'wait', for: 'slot', effects: [{ type: 'prepare-slot', slot, host: body.host }] }
}

export function recoverSlot(state: OwnerState, body: VolumeBody<'volume.recover-slot'>): Decision {
  return recovery(state, body) ?? done({})
}

export function releaseHost(state: OwnerState, body: VolumeBody<'volume.release-host'>): Decision {
  const wait = recovery(state, body)
  if (wait !== null) return wait
  const isIts = (held: Holder | null): boolean => held?.host === body.host && held.hostEpoch <= body.hostEpoch
  const disks = [...state.metadata.disks.values()].filter(disk => isIts(disk.holder) || isIts(disk.reserved))
  const entries: Entry[] = []
  if (disks.length > 0) entries.push({ type: 'host-released', host: body.host, hostEpoch: body.hostEpoch })
  for (const { disk: id, vm, epoch } of body.ended ?? []) {
    const disk = findDisk(state, id)
    if (disk === null) continue
    const isOver = (held: Holder | null): held is Holder => held?.vm === vm && held.epoch <= epoch && !isIts(held)
    if (isOver(disk.holder)) entries.push({ type: 'detached', disk: id })
    if (isOver(disk.reserved)) entries.push({ type: 'burnt', disk: id, epoch: disk.reserved.epoch })
    if ((isOver(disk.holder) || isOver(disk.reserved)) && !disks.includes(disk)) disks.push(disk)
  }
  return done({ disks: disks.map(disk => disk.id) }, entries)
}

/**
 * Null once the slot is recovered up to that host epoch. An order that comes late, after the host was admitted anew and
 * holds disks again, must not clear what it marks now.
 */
function recovery(state: OwnerState, body: { readonly host: string; readonly hostEpoch: number }): Decision | null {
  const slot = state.metadata.slots.get(body.host)
  if (slot === undefined) return null
  if ((state.recovered.get(body.host) ?? -1) >= body.hostEpoch) return null
  for (const { holder } of state.metadata.disks.values()) {
    if (holder !== null && holder.host === body.host && holder.hostEpoch > body.hostEpoch) return null
  }
  const effects: Effect[] = state.recovering.has(body.host)
    ? []
    : [
        {
          type: 'recover-slot',
          slot,
          host: body.host,
          hostEpoch: body.hostEpoch,
          // Where a migration's outcome is not known here, either of its hosts may be writing.
          extents: extentsOf(state, ({ holder, reserved }) => holder?.host === body.host && reserved === null),
          reserved: extentsOf(
            state,
            ({ holder, reserved }) => reserved !== null && [holder?.host, reserved.host].includes(body.host),
          ),
        },
      ]
  return { type: 'wait', for: 'slot', effects }
}

function extentsOf(state: OwnerState, isMeant: (disk: Disk) => boolean): number[] {
  return [...state.metadata.disks.values()]
    .filter(isMeant)
    .flatMap(disk => [...disk.map.values()])
    .sort((a, b) => a - b)
}

function freeSlot(state: OwnerState, wanted: number | null): number | null {
  const taken = new Set([...state.metadata.slots.values(), ...state.preparing.values(), ...state.prepared.values()])
  if (wanted !== null && wanted < state.metadata.layout.slotCount && !taken.has(wanted)) return wanted
  for (let slot = 0; slot < state.metadata.layout.slotCount; slot += 1) if (!taken.has(slot)) return slot
  return null
}

function hostView(state: OwnerState, volume: string, slot: number): HostView {
  const { layout } = state.metadata
  return {
    volume,
    volumeId: layout.volumeId,
    extentBytes: layout.extentBytes,
    regionBytes: layout.regionBytes,
    dataOffset: layout.dataOffset,
    extentCount: layout.extentCount,
    slot,
    slotOffset: slotAddress(layout, slot),
    regionCount: regionCount(layout),
  }
}
