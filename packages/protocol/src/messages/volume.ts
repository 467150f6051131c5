// To the owner of a volume, from hosts that use it, from the coordinator and from the command line. All are idempotent:
// each may come twice or late, because whoever asks and gets no answer asks again, perhaps the next owner.

import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, Name } from './fields.ts'

/** Indexes in one allocate or free. */
export const MAX_EXTENTS_PER_REQUEST = 64
/** Runs in one page of a disk's map. */
export const MAP_PAGE_RUNS = 16_384

/** Ranges in one page of what is to be copied. */
export const SYNC_PAGE_RANGES = 4_096

/**
 * Runs of a disk's map, flat, four numbers each: first index in the disk, first extent of the volume, how many in a row,
 * and the map version at which they were mapped. That version tells an extent granted anew from its former self.
 */
export const RunsSchema = Type.Array(Count, { maxItems: 4 * MAP_PAGE_RUNS })

/** Of the indexes told with it, those whose extent is shared: flat, first index and how many in a row. */
export const SharedSchema = Type.Array(Count, { maxItems: 2 * MAP_PAGE_RUNS })

const Indexes = Type.Array(Type.Integer({ minimum: 0, maximum: 0xffff_ffff }), { maxItems: MAX_EXTENTS_PER_REQUEST })

/** A volume as one host needs to know it. */
export const HostViewSchema = closed({
  volume: Name,
  volumeId: Type.String(),
  extentBytes: Count,
  regionBytes: Count,
  dataOffset: Count,
  extentCount: Count,
  slot: Count,
  slotOffset: Count,
  regionCount: Count,
})
export type HostView = Static<typeof HostViewSchema>

const Holder = closed({ vm: Name, host: Name, hostEpoch: Count, epoch: Count })

export const DiskInfoSchema = closed({
  disk: Name,
  name: Name,
  sizeBytes: Count,
  allocatedBytes: Count,
  /** Of those: what other disks or snapshots have too. */
  sharedBytes: Count,
  /** The disk or snapshot it was made from, if that is still there. */
  parent: Type.Union([Type.Null(), Name]),
  snapshot: Type.Boolean(),
  mapVersion: Count,
  /** The highest at which an extent came into its map that is there now: whoever knows the map at that one has all of it. */
  mappedVersion: Count,
  holder: Type.Union([Type.Null(), Holder]),
  reserved: Type.Union([Type.Null(), Holder]),
})
export type DiskInfo = Static<typeof DiskInfoSchema>

/** The volume's generation in which its owner gave this out: it may be used once one's own mirror serves in it. */
const Generation = Count

/** What a host needs to use a disk it holds. `next`: ask `volume.map` from there for the rest of the map; null: whole. */
export const DiskGrantSchema = closed({
  disk: Name,
  sizeBytes: Count,
  mapVersion: Count,
  readOnly: Type.Boolean(),
  runs: RunsSchema,
  shared: SharedSchema,
  next: Type.Union([Type.Null(), Count]),
  generation: Generation,
})
export type DiskGrant = Static<typeof DiskGrantSchema>

const Of = { volume: Name, disk: Name }
/** Who asks: the disk must be held by this host at this placement epoch. `committed`: by the coordinator's commit. */
const Holding = { ...Of, host: Name, epoch: Count, committed: Type.Boolean() }
/**
 * Of the coordinator's orders about disks: rises with each that it sends, over its runs. Where one was held up and asked for
 * again another way, the old one is refused (`stale-order`) when it comes at last.
 */
const Numbered = { order: Type.Optional(Count) }
const Nothing = closed({})

export const volumeFamily = defineFamily('volume', {
  /** A host opens the volume: it gets a slot (the one named, if it is free) and the geometry. */
  'volume.open-host': {
    request: closed({ volume: Name, host: Name, hostEpoch: Count, slot: Type.Union([Type.Null(), Count]) }),
    reply: HostViewSchema,
  },
  'volume.create-disk': {
    request: closed({ ...Of, ...Numbered, name: Name, sizeBytes: Count }),
    reply: DiskInfoSchema,
  },
  'volume.delete-disk': { request: closed({ ...Of, ...Numbered }), reply: closed({ existed: Type.Boolean() }) },
  'volume.resize-disk': { request: closed({ ...Of, sizeBytes: Count }), reply: DiskInfoSchema },
  /** Of a disk in use: its host is asked for a barrier first, see volume-disks.ts. */
  'volume.snapshot-disk': { request: closed({ ...Of, snapshot: Name, name: Name }), reply: DiskInfoSchema },
  'volume.clone-disk': {
    request: closed({ ...Numbered, volume: Name, snapshot: Name, disk: Name, name: Name }),
    reply: DiskInfoSchema,
  },
  /** Extents in use that nothing maps go back, at most so many at a time. */
  'volume.repair-leaks': { request: closed({ volume: Name }), reply: closed({ freed: Count }) },
  'volume.list-disks': { request: closed({ volume: Name }), reply: closed({ disks: Type.Array(DiskInfoSchema) }) },
  'volume.attach': { request: closed({ ...Holding, vm: Name, hostEpoch: Count }), reply: DiskGrantSchema },
  'volume.map': {
    request: closed({ ...Holding, from: Count }),
    reply: closed({
      runs: RunsSchema,
      shared: SharedSchema,
      next: Type.Union([Type.Null(), Count]),
      generation: Generation,
    }),
  },
  /** The target of a migration that switches, at the epoch its commit would raise. */
  'volume.reserve': {
    request: closed({ ...Of, vm: Name, host: Name, hostEpoch: Count, epoch: Count }),
    reply: Nothing,
  },
  'volume.commit': { request: closed({ ...Of, epoch: Count }), reply: Nothing },
  /** Burns the epoch: nothing attaches with it any more. */
  'volume.abort': { request: closed({ ...Of, epoch: Count }), reply: Nothing },
  /** The host has drained and cleared its bits. */
  'volume.detach': {
    request: closed({ ...Of, host: Name, epoch: Count }),
    reply: closed({ detached: Type.Boolean() }),
  },
  /** `ahead`: indexes that will probably be wanted soon; granted if it costs nothing. */
  'volume.allocate': {
    request: closed({ ...Holding, indexes: Indexes, ahead: Indexes }),
    reply: closed({ runs: RunsSchema, shared: SharedSchema, mapVersion: Count, generation: Generation }),
  },
  /**
   * Before the first write to extents that are, or may be, shared: those that the host may write to from now on, without those in
   * `shared`. At least one of them, unless none is mapped. `extents`: what the host has at these indexes, one each, and `mapVersion`
   * the highest version it has heard of: a question that comes late, after another has been answered, names what was then, and
   * moves nothing.
   */
  'volume.unshare': {
    request: closed({ ...Holding, indexes: Indexes, extents: Indexes, mapVersion: Count }),
    reply: closed({ runs: RunsSchema, shared: SharedSchema, mapVersion: Count, generation: Generation }),
  },
  /** The host has dropped these mappings, drained, and cleared its bits there. */
  'volume.free': {
    request: closed({ ...Holding, runs: Type.Array(Count, { maxItems: 4 * MAX_EXTENTS_PER_REQUEST }) }),
    reply: closed({ mapVersion: Count }),
  },
  'volume.usage': {
    request: closed({ volume: Name }),
    reply: closed({
      sizeBytes: Count,
      usedBytes: Count,
      freeBytes: Count,
      /** What the disks would take if they shared nothing. */
      mappedBytes: Count,
      extentBytes: Count,
      disks: Count,
      ownerEpoch: Count,
    }),
  },
  /** Of a fenced host: what its slot marks is made equal on all legs, then the slot is cleared. */
  'volume.recover-slot': { request: closed({ volume: Name, host: Name, hostEpoch: Count }), reply: Nothing },
  /**
   * After the slot's recovery: what the host held at this epoch or an older one is free. `ended`: disks of VMs whose last
   * instance was there, at that placement epoch. Whoever holds one at that or an older one has handed it over or died: it may
   * be that the last one never got as far as holding it.
   */
  'volume.release-host': {
    request: closed({
      volume: Name,
      host: Name,
      hostEpoch: Count,
      ended: Type.Optional(Type.Array(closed({ disk: Name, vm: Name, epoch: Count }), { maxItems: 4096 })),
    }),
    reply: closed({ disks: Type.Array(Name) }),
  },
  /**
   * What of a disk that one holds a leg misses which is catching up in this generation: addresses on the LUN, flat, two
   * numbers each: offset and length. Refused with `other-generation` by an owner in another one.
   */
  'volume.sync-plan': {
    request: closed({ ...Holding, generation: Count, from: Count }),
    reply: closed({
      ranges: Type.Array(Count, { maxItems: 2 * SYNC_PAGE_RANGES }),
      next: Type.Union([Type.Null(), Count]),
    }),
  },
  /** All of that has been copied. */
  'volume.synced': { request: closed({ ...Holding, generation: Count }), reply: Nothing },
  'volume.put-cluster-copy': {
    request: closed({ volume: Name, version: Count, value: Type.Unknown() }),
    reply: closed({ version: Count }),
  },
  'volume.get-cluster-copy': {
    request: closed({ volume: Name }),
    reply: closed({ version: Count, value: Type.Unknown() }),
  },
})
