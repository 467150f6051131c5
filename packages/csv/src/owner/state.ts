// What a volume's owner knows: the metadata, which every entry of the journal made, and beside them what it may forget:
// extents already zeroed, slots being prepared or recovered. Changed only here, by decisions (decide.ts) and by news of
// what became of effects.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { applyEntry, type Entry, eachPair, type Holder, type Metadata } from '../format/metadata.ts'
import { beginCopy, endCopy, takeCopied, tidyCopies } from './copies.ts'
import { type SyncState, stillMissed } from './decide-sync.ts'

/** Zeroed extents kept ready: a grant then costs one journal write. */
export const POOL_EXTENTS = 8

export type Effect =
  /** Make the extent read as zeroes, durably, on every in-sync leg. */
  | { readonly type: 'zero'; readonly extent: number }
  /** Make the slot this host's, empty, on every in-sync leg. */
  | { readonly type: 'prepare-slot'; readonly slot: number; readonly host: string }
  /**
   * Make what the slot marks equal on every in-sync leg, then clear it. `extents`: what the host held; `reserved`: what is on its way
   * to or from it, by a migration of which the owner has not heard whether it was committed. A slot marks nothing else, and
   * nothing else may be copied, for others are writing there.
   */
  | {
      readonly type: 'recover-slot'
      readonly slot: number
      readonly host: string
      readonly hostEpoch: number
      readonly extents: readonly number[]
      readonly reserved: readonly number[]
    }
  | { readonly type: 'write-cluster-copy'; readonly version: number; readonly value: Json }
  /** Reads from the slots what a leg that catches up misses, for whoever holds the disk at this placement epoch. */
  | { readonly type: 'read-stale'; readonly disk: string; readonly epoch: number }
  /** Make `to` hold what `from` holds, durably, on every in-sync leg. */
  | {
      readonly type: 'copy'
      readonly disk: string
      /** Who has the disk as it is begun. */
      readonly holder: Holder | null
      readonly index: number
      readonly from: number
      readonly to: number
    }
  /** Ask the host to end its writes in flight on the disk and to begin none in place before it has asked here. */
  | { readonly type: 'barrier'; readonly disk: string; readonly snapshot: string; readonly holder: Holder }
  /** Tell the host that the disk has another size. Nobody waits for it. */
  | {
      readonly type: 'tell-size'
      readonly disk: string
      readonly holder: Holder
      readonly sizeBytes: number
      readonly mapVersion: number
    }

export type EffectOutcome =
  | { readonly ok: true; readonly missed?: ReadonlySet<number> }
  /**
   * `full`: the storage behind a leg has no room; else that extent is not to be used, unless it was another that could not
   * be read (`unreadable`) or a host that did not do its part (`why`).
   */
  | { readonly ok: false; readonly full: boolean; readonly unreadable?: boolean; readonly why?: StellwerkError }

/** A copy for the first write to a shared extent, until it is mapped. */
export interface Copy {
  readonly disk: string
  readonly holder: Holder | null
  readonly index: number
  readonly from: number
  readonly to: number
  outcome: 'running' | 'done' | 'unreadable'
  /** What it was made from has changed meanwhile. */
  void: boolean
}

export interface Barrier {
  readonly effect: Extract<Effect, { type: 'barrier' }>
  outcome: 'asked' | 'passed' | StellwerkError
}

export interface OwnerState {
  readonly metadata: Metadata
  /** Of the volume: this owner was opened in it, and ends with it. */
  readonly generation: number
  /** A leg is catching up; null: none is. */
  readonly sync: SyncState | null
  /** Zeroed, free, in the order in which they will be granted. */
  readonly pool: number[]
  readonly zeroing: Set<number>
  /** Free extents that could not be zeroed: left alone until another owner tries. */
  readonly bad: Set<number>
  /** Where the search for a free extent goes on: reuse comes late. */
  cursor: number
  /** Hosts whose slot is being prepared, and those whose slot is ready but not journaled. */
  readonly preparing: Map<string, number>
  readonly prepared: Map<string, number>
  /** By disk and index; the extents they go to are in hand. */
  readonly copies: Map<string, Copy>
  /** By disk: snapshots whose host is asked, or has answered and the snapshot is not journaled yet. */
  readonly barriers: Map<string, Barrier>
  /**
   * Extents that a scrub compares right now, here or at the host that holds them: nobody gets one anew, or the right to
   * write it in place, before that has ended. Who had that right may go on: it has the range lock.
   */
  readonly comparing: Set<number>
  /** By disk: the map version that its last snapshot made, or at which this owner opened the volume. */
  readonly clonedAt: Map<string, number>
  /** Hosts whose slot is being compared: none of them opens the volume meanwhile. */
  readonly comparingSlots: Set<string>
  readonly recovering: Set<string>
  /** The host epoch up to which a host's slot has been recovered. */
  readonly recovered: Map<string, number>
  clusterVersion: number
  clusterValue: Json
  writingCluster: boolean
}

export function ownerState(
  metadata: Metadata,
  cluster: { readonly version: number; readonly value: Json },
  generation = 0,
  sync: SyncState | null = null,
): OwnerState {
  return {
    metadata,
    generation,
    sync,
    pool: [],
    zeroing: new Set(),
    bad: new Set(),
    cursor: 0,
    preparing: new Map(),
    prepared: new Map(),
    copies: new Map(),
    barriers: new Map(),
    comparing: new Set(),
    clonedAt: new Map([...metadata.disks.values()].map(({ id, mapVersion }) => [id, mapVersion])),
    comparingSlots: new Set(),
    recovering: new Set(),
    recovered: new Map(),
    clusterVersion: cluster.version,
    clusterValue: cluster.value,
    writingCluster: false,
  }
}

/** It must not be written in place by whoever gets to know of it now. */
export function isShared({ metadata, comparing }: OwnerState, extent: number): boolean {
  return metadata.references[extent]! > 1 || comparing.has(extent)
}

/** Free extents that can be granted, zeroed already or not. What was freed while a leg catches up cannot, until it has. */
export function freeExtents({ metadata, bad, copies, sync }: OwnerState): number {
  return metadata.layout.extentCount - metadata.usedExtents - bad.size - copies.size - (sync?.freed.size ?? 0)
}

/**
 * Up to `count` free extents that nobody has in hand, from the cursor on; `zeroed`: those kept ready as zeroed ones may be
 * taken if there are no others.
 */
export function pickFree(state: OwnerState, count: number, zeroed = false): number[] {
  const { references, layout } = state.metadata
  const inHand = new Set(state.pool)
  for (const { to } of state.copies.values()) inHand.add(to)
  const picked: number[] = []
  for (let step = 0; step < layout.extentCount && picked.length < count; step += 1) {
    const extent = (state.cursor + step) % layout.extentCount
    if (references[extent] !== 0 || inHand.has(extent) || state.comparing.has(extent)) continue
    if (state.zeroing.has(extent) || state.bad.has(extent) || state.sync?.freed.has(extent) === true) continue
    picked.push(extent)
  }
  if (zeroed && picked.length < count) picked.push(...state.pool.slice(picked.length - count))
  return picked
}

/** A decision takes effect in memory; its entries must be durable before anyone is told. */
export function takeEntries(state: OwnerState, entries: readonly Entry[]): void {
  for (const entry of entries) {
    applyEntry(state.metadata, entry)
    if (entry.type === 'mapped') {
      eachPair(entry.pairs, (_, extent) => {
        const at = state.pool.indexOf(extent)
        assert(at >= 0, `extent ${extent} is granted without having been zeroed`)
        state.pool.splice(at, 1)
      })
    }
    if (entry.type === 'slot-assigned') state.prepared.delete(entry.host)
    if (entry.type === 'disk-created') state.sync?.synced.add(entry.disk)
    if (entry.type === 'disk-cloned') {
      state.barriers.delete(entry.source)
      state.clonedAt.set(entry.source, state.metadata.disks.get(entry.source)!.mapVersion)
    }
    if (entry.type === 'disk-deleted') {
      state.barriers.delete(entry.disk)
      state.clonedAt.delete(entry.disk)
    }
    if (entry.type === 'remapped') takeCopied(state, entry)
  }
  if (entries.length > 0 && state.copies.size > 0) tidyCopies(state)
}

/** What a refusal has used up. */
export function forget(state: OwnerState, what: { readonly barrier?: string; readonly copy?: string }): void {
  if (what.barrier !== undefined) state.barriers.delete(what.barrier)
  if (what.copy !== undefined) state.copies.delete(what.copy)
}

export function startEffect(state: OwnerState, effect: Effect): void {
  switch (effect.type) {
    case 'zero':
      assert(state.metadata.references[effect.extent] === 0, `extent ${effect.extent} is zeroed while it is in use`)
      state.zeroing.add(effect.extent)
      state.cursor = (effect.extent + 1) % state.metadata.layout.extentCount
      return
    case 'prepare-slot':
      state.preparing.set(effect.host, effect.slot)
      return
    case 'recover-slot':
      state.recovering.add(effect.host)
      return
    case 'write-cluster-copy':
      state.writingCluster = true
      return
    case 'read-stale':
      state.sync?.reading.add(effect.disk)
      return
    case 'copy':
      beginCopy(state, effect)
      return
    case 'barrier':
      state.barriers.set(effect.disk, { effect, outcome: 'asked' })
      return
    case 'tell-size':
  }
}

export function endEffect(state: OwnerState, effect: Effect, outcome: EffectOutcome): void {
  switch (effect.type) {
    case 'zero':
      state.zeroing.delete(effect.extent)
      if (outcome.ok) state.pool.push(effect.extent)
      else if (!outcome.full) state.bad.add(effect.extent)
      return
    case 'prepare-slot':
      state.preparing.delete(effect.host)
      if (outcome.ok) state.prepared.set(effect.host, effect.slot)
      return
    case 'recover-slot':
      state.recovering.delete(effect.host)
      if (!outcome.ok) return
      state.recovered.set(effect.host, Math.max(effect.hostEpoch, state.recovered.get(effect.host) ?? 0))
      if (outcome.missed !== undefined)
        stillMissed(state.sync, state.metadata.disks.values(), [...effect.extents, ...effect.reserved], outcome.missed)
      return
    case 'write-cluster-copy':
      state.writingCluster = false
      if (!outcome.ok) return
      state.clusterVersion = effect.version
      state.clusterValue = effect.value
      return
    case 'read-stale':
      state.sync?.reading.delete(effect.disk)
      if (!outcome.ok) return
      for (const region of outcome.missed ?? []) state.sync?.missed.add(region)
      state.sync?.readFor.set(effect.disk, effect.epoch)
      return
    case 'copy':
      endCopy(state, effect, outcome)
      return
    case 'barrier': {
      const barrier = state.barriers.get(effect.disk)
      // It was given up meanwhile, and another may have begun.
      if (barrier?.effect !== effect) return
      if (outcome.ok) barrier.outcome = 'passed'
      else if (outcome.why !== undefined) barrier.outcome = outcome.why
      return
    }
    case 'tell-size':
  }
}
