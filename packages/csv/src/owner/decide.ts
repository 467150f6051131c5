// The owner's decisions: a synchronous function of its state and one request. It changes nothing. Who calls it applies the
// entries, makes them durable, and only then answers; a decision that must wait for an effect is made anew after it.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { maxClusterCopyBytes } from '../format/cluster-copy.ts'
import type { Entry } from '../format/metadata.ts'
import { abort, attach, commit, detach, reserve } from './decide-attachments.ts'
import { createDisk, deleteDisk, diskInfo, mapPage, resizeDisk } from './decide-disks.ts'
import { allocate, free, repairLeaks } from './decide-extents.ts'
import { openHost, recoverSlot, releaseHost } from './decide-hosts.ts'
import { cloneDisk, snapshotDisk } from './decide-snapshots.ts'
import { synced, syncPlan } from './decide-sync.ts'
import { unshare } from './decide-unshare.ts'
import { refuse } from './refusal.ts'
import type { VolumeKind, VolumeReply, VolumeRequest } from './request.ts'
import { type Effect, freeExtents, type OwnerState } from './state.ts'

export type Decision =
  /** Journal the entries, start the effects (nobody waits for them), then answer. */
  | {
      readonly type: 'done'
      readonly entries: readonly Entry[]
      readonly effects: readonly Effect[]
      readonly reply: VolumeReply<VolumeKind>
      /** A disk of which a leg that catches up has everything now. */
      readonly synced?: string
    }
  /** Start the effects; decide again whenever one has ended. */
  | {
      readonly type: 'wait'
      readonly for: 'extents' | 'slot' | 'cluster-copy' | 'stale' | 'resync' | 'copy' | 'barrier' | 'reservation'
      readonly effects: readonly Effect[]
    }
  | {
      readonly type: 'refused'
      readonly error: StellwerkError
      /** What it has used up: a disk's barrier, a copy. */
      readonly forget?: { readonly barrier?: string; readonly copy?: string }
    }

export function decide(state: OwnerState, request: VolumeRequest): Decision {
  switch (request.kind) {
    case 'volume.open-host':
      return openHost(state, request.body)
    case 'volume.create-disk':
      return createDisk(state, request.body)
    case 'volume.delete-disk':
      return deleteDisk(state, request.body)
    case 'volume.resize-disk':
      return resizeDisk(state, request.body)
    case 'volume.snapshot-disk':
      return snapshotDisk(state, request.body)
    case 'volume.clone-disk':
      return cloneDisk(state, request.body)
    case 'volume.repair-leaks':
      return repairLeaks(state)
    case 'volume.list-disks':
      return done({ disks: [...state.metadata.disks.values()].map(disk => diskInfo(state, disk)) })
    case 'volume.attach':
      return attach(state, request.body)
    case 'volume.map':
      return mapPage(state, request.body)
    case 'volume.reserve':
      return reserve(state, request.body)
    case 'volume.commit':
      return commit(state, request.body)
    case 'volume.abort':
      return abort(state, request.body)
    case 'volume.detach':
      return detach(state, request.body)
    case 'volume.allocate':
      return allocate(state, request.body)
    case 'volume.unshare':
      return unshare(state, request.body)
    case 'volume.free':
      return free(state, request.body)
    case 'volume.usage':
      return usage(state)
    case 'volume.recover-slot':
      return recoverSlot(state, request.body)
    case 'volume.release-host':
      return releaseHost(state, request.body)
    case 'volume.sync-plan':
      return syncPlan(state, request.body)
    case 'volume.synced':
      return synced(state, request.body)
    case 'volume.put-cluster-copy':
      return putClusterCopy(state, request.body.version, request.body.value as Json)
    case 'volume.get-cluster-copy':
      return done({ version: state.clusterVersion, value: state.clusterValue })
    default:
      return unreachable(request)
  }
}

export function done(
  reply: VolumeReply<VolumeKind>,
  entries: readonly Entry[] = [],
  effects: readonly Effect[] = [],
): Decision {
  return { type: 'done', entries, effects, reply }
}

export function refused(error: StellwerkError): Extract<Decision, { type: 'refused' }> {
  return { type: 'refused', error }
}

function usage(state: OwnerState): Decision {
  const { layout, usedExtents, mappings, disks, ownerEpoch } = state.metadata
  return done({
    sizeBytes: layout.extentCount * layout.extentBytes,
    usedBytes: usedExtents * layout.extentBytes,
    freeBytes: freeExtents(state) * layout.extentBytes,
    mappedBytes: mappings * layout.extentBytes,
    extentBytes: layout.extentBytes,
    disks: disks.size,
    ownerEpoch,
  })
}

/** An older version than the stored one changes nothing: it came late. */
function putClusterCopy(state: OwnerState, version: number, value: Json): Decision {
  if (version <= state.clusterVersion) return done({ version: state.clusterVersion })
  const { layout } = state.metadata
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes > maxClusterCopyBytes(layout)) {
    return refused(
      refuse('cluster-copy-too-large', `${bytes} bytes do not fit the volume's cluster copy`, {
        where: layout.volumeId,
        hint: `at most ${maxClusterCopyBytes(layout)} bytes`,
      }),
    )
  }
  const effects: Effect[] = state.writingCluster ? [] : [{ type: 'write-cluster-copy', version, value }]
  return { type: 'wait', for: 'cluster-copy', effects }
}
