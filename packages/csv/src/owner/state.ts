// What a volume's owner knows: the metadata, which every entry of the journal made, and beside them what it may forget:
// extents already zeroed, slots being prepared or recovered. Changed only here, by decisions (decide.ts) and by news of
// what became of effects.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { applyEntry, type Entry, eachPair, type Metadata } from '../format/metadata.ts'
import type { SyncState } from './decide-sync.ts'

/** Zeroed extents kept ready: a grant then costs one journal write. */
export const POOL_EXTENTS = 8

export type Effect =
  /** Make the extent read as zeroes, durably, on every in-sync leg. */
  | { readonly type: 'zero'; readonly extent: number }
  /** Make the slot this host's, empty, on every in-sync leg. */
  | { readonly type: 'prepare-slot'; readonly slot: number; readonly host: string }
  /**
   * Make what the slot marks equal on every in-sync leg, then clear it. `extents`: what the host held; a slot marks
   * nothing else, and nothing else may be copied, for others are writing there.
   */
  | {
      readonly type: 'recover-slot'
      readonly slot: number
      readonly host: string
      readonly hostEpoch: number
      readonly extents: readonly number[]
    }
  | { readonly type: 'write-cluster-copy'; readonly version: number; readonly value: Json }
  /** Reads from the slots what a leg that catches up misses, for whoever holds the disk at this placement epoch. */
  | { readonly type: 'read-stale'; readonly disk: string; readonly epoch: number }

export type EffectOutcome =
  | { readonly ok: true; readonly missed?: ReadonlySet<number> }
  /** `full`: the storage behind a leg has no room; else that extent is not to be used. */
  | { readonly ok: false; readonly full: boolean }

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
    recovering: new Set(),
    recovered: new Map(),
    clusterVersion: cluster.version,
    clusterValue: cluster.value,
    writingCluster: false,
  }
}

/** Free extents that can be granted, zeroed already or not. */
export function freeExtents(state: OwnerState): number {
  return state.metadata.layout.extentCount - state.metadata.usedExtents - state.bad.size
}

/** Up to `count` free extents that nobody has in hand, from the cursor on. */
export function pickFree(state: OwnerState, count: number): number[] {
  const { references, layout } = state.metadata
  const inHand = new Set(state.pool)
  const picked: number[] = []
  for (let step = 0; step < layout.extentCount && picked.length < count; step += 1) {
    const extent = (state.cursor + step) % layout.extentCount
    if (references[extent] !== 0 || inHand.has(extent)) continue
    if (state.zeroing.has(extent) || state.bad.has(extent)) continue
    picked.push(extent)
  }
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
  }
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
      if (outcome.ok)
        state.recovered.set(effect.host, Math.max(effect.hostEpoch, state.recovered.get(effect.host) ?? 0))
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
  }
}
