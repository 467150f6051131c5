// Decisions about disks: create, delete, resize, and what a disk is told to look like.

import type { DiskGrant, DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import { MAP_PAGE_RUNS } from '@stellwerk/protocol/messages/volume.ts'
import { checkpointBound } from '../format/checkpoint.ts'
import { BLOCK_BYTES, MAX_DISKS } from '../format/layout.ts'
import type { Disk } from '../format/metadata.ts'
import { type Decision, done, refused } from './decide.ts'
import { atBarrier } from './decide-snapshots.ts'
import { beingCopied } from './decide-sync.ts'
import { holding } from './holding.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody } from './request.ts'
import { type Effect, isShared, type OwnerState } from './state.ts'

/** An index must fit 32 bits, and a map the memory. */
const MAX_DISK_EXTENTS = 0x100_0000

/** By id or by name: no disk's id is another's name. */
export function findDisk(state: OwnerState, reference: string): Disk | null {
  const byId = state.metadata.disks.get(reference)
  if (byId !== undefined) return byId
  for (const disk of state.metadata.disks.values()) if (disk.name === reference) return disk
  return null
}

export function missing(reference: string): Decision {
  return refused(refuse('disk-missing', `there is no disk ${reference} on this volume`, { where: reference }))
}

export function createDisk(state: OwnerState, body: VolumeBody<'volume.create-disk'>): Decision {
  const { metadata } = state
  const same = metadata.disks.get(body.disk)
  if (same !== undefined && same.name === body.name && same.sizeBytes === body.sizeBytes)
    return done(diskInfo(state, same))
  const wrong = badSize(state, body.sizeBytes) ?? roomForDisk(state, body.disk, body.name)
  if (wrong !== null) return wrong
  if (!fitsCheckpoint(state, 1, 0, 0)) return refused(metadataFull(state))
  const disk: Disk = {
    id: body.disk,
    name: body.name,
    parent: null,
    snapshot: false,
    sizeBytes: body.sizeBytes,
    vm: '',
    mapVersion: 0,
    leastEpoch: 0,
    holder: null,
    reserved: null,
    map: new Map(),
  }
  return done(diskInfo(state, disk), [
    { type: 'disk-created', disk: body.disk, name: body.name, sizeBytes: body.sizeBytes },
  ])
}

/** Null: its id and name are free, and the volume can have one more. */
export function roomForDisk(state: OwnerState, disk: string, name: string): Decision | null {
  for (const reference of [disk, name]) {
    if (findDisk(state, reference) === null) continue
    return refused(
      refuse('disk-exists', `there is a disk ${reference} already`, { where: reference, hint: 'choose another name' }),
    )
  }
  if (state.metadata.disks.size < MAX_DISKS) return null
  return refused(refuse('too-many-disks', `the volume holds ${MAX_DISKS} disks already`, { where: name }))
}

export function deleteDisk(state: OwnerState, body: VolumeBody<'volume.delete-disk'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return done({ existed: false })
  if (disk.holder !== null || disk.reserved !== null) {
    const { vm, host } = (disk.holder ?? disk.reserved)!
    return refused(
      refuse('disk-attached', `disk ${disk.name} is attached to ${vm} on ${host}`, {
        where: disk.name,
        hint: 'stop the VM first',
      }),
    )
  }
  const copied = beingCopied(state, disk)
  if (copied !== null) return copied
  return done({ existed: true }, [{ type: 'disk-deleted', disk: disk.id }])
}

/**
 * A disk in use only grows: what its host has mapped is not taken away behind its back. Nothing that is mapped is ever cut
 * off. Its host is told, and told again if this is asked again.
 */
export function resizeDisk(state: OwnerState, body: VolumeBody<'volume.resize-disk'>): Decision {
  const disk = findDisk(state, body.disk)
  if (disk === null) return missing(body.disk)
  if (disk.sizeBytes === body.sizeBytes) return done(diskInfo(state, disk), [], tellSize(disk, disk))
  if (disk.snapshot) {
    return refused(refuse('read-only-disk', `${disk.name} is a snapshot: it stays as it is`, { where: disk.name }))
  }
  const wrong = badSize(state, body.sizeBytes)
  if (wrong !== null) return wrong
  if (disk.reserved !== null) return refused(switching(disk))
  const copied = beingCopied(state, disk)
  if (copied !== null) return copied
  if (disk.holder !== null && body.sizeBytes < disk.sizeBytes) {
    return refused(
      refuse('disk-attached', `disk ${disk.name} can't shrink while it is attached to ${disk.holder.vm}`, {
        where: disk.name,
        hint: 'stop the VM first',
      }),
    )
  }
  const { extentBytes } = state.metadata.layout
  let last = -1
  // One by one: a large disk has more extents than a call has arguments.
  for (const index of disk.map.keys()) last = Math.max(last, index)
  const mapped = (last + 1) * extentBytes
  const used = Math.min(mapped, disk.sizeBytes)
  if (body.sizeBytes < used) {
    return refused(
      refuse('disk-too-small', `disk ${disk.name} has data up to byte ${used}, which ${body.sizeBytes} would cut off`, {
        where: disk.name,
        hint: 'trim the end of the disk first, or give it more',
      }),
    )
  }
  const wait = atBarrier(state, disk)
  if (wait !== null) return wait
  const after = { ...disk, sizeBytes: body.sizeBytes, mapVersion: disk.mapVersion + 1 }
  return done(
    diskInfo(state, after),
    [{ type: 'disk-resized', disk: disk.id, sizeBytes: body.sizeBytes }],
    tellSize(disk, after),
  )
}

/** Its host, which may not have heard of the last change. */
export function tellSize({ id, holder }: Disk, { sizeBytes, mapVersion }: Disk): Effect[] {
  return holder === null ? [] : [{ type: 'tell-size', disk: id, holder, sizeBytes, mapVersion }]
}

export function mapPage(state: OwnerState, body: VolumeBody<'volume.map'>): Decision {
  const held = holding(state, body)
  if ('error' in held) return refused(held.error)
  return done({ ...runsFrom(state, held.disk, body.from), generation: state.generation }, held.entries)
}

export function grantOf(state: OwnerState, disk: Disk): DiskGrant {
  const { id, sizeBytes, mapVersion, snapshot } = disk
  const map = runsFrom(state, disk, 0)
  return { disk: id, sizeBytes, mapVersion, readOnly: snapshot, ...map, generation: state.generation }
}

export function diskInfo(state: OwnerState, disk: Disk): DiskInfo {
  const { references, versions, layout } = state.metadata
  let shared = 0
  let mappedVersion = 0
  for (const extent of disk.map.values()) {
    if (references[extent]! > 1) shared += 1
    if (versions[extent]! > mappedVersion) mappedVersion = versions[extent]!
  }
  return {
    disk: disk.id,
    name: disk.name,
    sizeBytes: disk.sizeBytes,
    allocatedBytes: disk.map.size * layout.extentBytes,
    sharedBytes: shared * layout.extentBytes,
    parent: disk.parent,
    snapshot: disk.snapshot,
    mapVersion: disk.mapVersion,
    mappedVersion,
    holder: disk.holder,
    reserved: disk.reserved,
  }
}

export function switching(disk: Disk): ReturnType<typeof refuse> {
  return refuse('disk-switching', `disk ${disk.name} is being handed over to another host`, {
    where: disk.name,
    hint: 'it passes when the migration is over',
  })
}

/** Would the metadata still fit a checkpoint with so much more in them? */
export function fitsCheckpoint(state: OwnerState, disks: number, mappings: number, extents: number): boolean {
  const { metadata } = state
  const bound = checkpointBound(
    metadata.disks.size + disks,
    metadata.mappings + mappings,
    metadata.usedExtents + extents,
    metadata.layout.slotCount,
  )
  return bound <= metadata.layout.checkpointBytes
}

/** Would they fit with so many mappings more, and every free extent mapped besides? Nobody is refused a write for them. */
export function fitsMappings(state: OwnerState, mappings: number): boolean {
  const { layout, usedExtents } = state.metadata
  const free = layout.extentCount - usedExtents
  return fitsCheckpoint(state, 1, mappings + free, free)
}

export function metadataFull(state: OwnerState): ReturnType<typeof refuse> {
  return refuse('metadata-full', 'the volume has no room for more metadata', {
    where: state.metadata.layout.volumeId,
    hint: 'delete disks or snapshots',
  })
}

/** Runs of the map in ascending order of index, from an index on, one page of them; a run is shared as a whole or not. */
function runsFrom(
  state: OwnerState,
  disk: Disk,
  from: number,
): { runs: number[]; shared: number[]; next: number | null } {
  const { versions } = state.metadata
  const runs: number[] = []
  const shared: number[] = []
  let wasShared = false
  for (const index of [...disk.map.keys()].filter(index => index >= from).sort((a, b) => a - b)) {
    const extent = disk.map.get(index)!
    const version = versions[extent]!
    const last = runs.length - 4
    const count = runs[last + 2]!
    const shares = isShared(state, extent)
    if (
      last >= 0 &&
      shares === wasShared &&
      runs[last]! + count === index &&
      runs[last + 1]! + count === extent &&
      runs[last + 3] === version
    ) {
      runs[last + 2] = count + 1
      if (shares) shared[shared.length - 1]! += 1
      continue
    }
    if (runs.length === 4 * MAP_PAGE_RUNS) return { runs, shared, next: index }
    runs.push(index, extent, 1, version)
    if (shares) shared.push(index, 1)
    wasShared = shares
  }
  return { runs, shared, next: null }
}

function badSize(state: OwnerState, sizeBytes: number): Decision | null {
  const most = MAX_DISK_EXTENTS * state.metadata.layout.extentBytes
  if (sizeBytes > 0 && sizeBytes % BLOCK_BYTES === 0 && sizeBytes <= most) return null
  return refused(
    refuse('bad-size', `a disk can't have ${sizeBytes} bytes`, {
      hint: `a multiple of ${BLOCK_BYTES}, up to ${most}`,
    }),
  )
}
