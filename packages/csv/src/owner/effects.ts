// What the owner does to the volume besides writing its journal, on every in-sync leg: zeroing, slots, the cluster's copy.

import { BlockError } from '@stellwerk/block/device.ts'
import { unreachable } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { Sealer } from '../format/checksum.ts'
import { clusterCopyAddress, encodeClusterCopy, findClusterCopy } from '../format/cluster-copy.ts'
import {
  isZero,
  type Leg,
  OWNER_IO,
  readBytes,
  readWhatCan,
  SPARED_IO,
  settleAll,
  writeLegs,
  zeroRange,
} from '../format/device-io.ts'
import { BLOCK_BYTES, extentAddress, type Layout, regionCount, slotAddress, slotAddresses } from '../format/layout.ts'
import { clearIntent, decodeSlotHeader, prepareSlot, readIntent } from '../format/slot.ts'
import { copyRange, unreadableText } from '../mirror/copy-range.ts'
import { readStale, type StaleLeg, staleLogOn } from '../mirror/stale-log.ts'
import { copyExtent } from './copy-extent.ts'
import type { HostEffect } from './host-effects.ts'
import type { Effect, EffectOutcome } from './state.ts'

export interface EffectContext {
  /** Those that are written to; in-sync ones first, and only these are read. */
  readonly legs: readonly Leg[]
  readonly inSync: number
  readonly layout: Layout
  readonly ownerEpoch: number
  /** The leg that misses what is done now, or is catching up; null: none, or one that lacks everything. */
  readonly behind: StaleLeg | null
}

/** Rejects when the owner must end: it is deposed, or its leg is gone. What concerns one extent only is an outcome. */
export async function runEffect(context: EffectContext, effect: Exclude<Effect, HostEffect>): Promise<EffectOutcome> {
  switch (effect.type) {
    case 'zero':
      return zeroExtent(context, effect.extent)
    case 'prepare-slot':
      await assignSlot(context, effect.slot, effect.host)
      return { ok: true }
    case 'recover-slot':
      return { ok: true, missed: await recoverSlot(context, effect) }
    case 'write-cluster-copy': {
      const { legs, layout, ownerEpoch } = context
      const { nextArea } = await findClusterCopy(legs[0]!.device, layout, SPARED_IO)
      const address = clusterCopyAddress(layout, nextArea)
      const copy = { version: effect.version, ownerEpoch, value: effect.value }
      await writeLegs(legs, address, encodeClusterCopy(copy, layout, address), OWNER_IO)
      return { ok: true }
    }
    case 'read-stale': {
      const { legs, layout, behind } = context
      if (behind === null) return { ok: true }
      const slots = slotAddresses(layout)
      return {
        ok: true,
        missed: await readStale(legs[0]!.device, slots, behind, layout.volumeId, regionCount(layout)),
      }
    }
    case 'copy':
      return copyExtent(context.legs, context.inSync, context.layout, effect.from, effect.to)
    default:
      return unreachable(effect)
  }
}

async function zeroExtent({ legs, layout }: EffectContext, extent: number): Promise<EffectOutcome> {
  if (canary('extent-not-zeroed')) return { ok: true }
  const address = extentAddress(layout, extent)
  try {
    await settleAll(legs.map(leg => zeroRange(leg.device, address, layout.extentBytes, OWNER_IO)))
    return { ok: true }
  } catch (error) {
    // One bad spot, or a full backing store, is no reason to give the volume up.
    if (error instanceof BlockError && error.errno === 'ENOSPC') return { ok: false, full: true }
    if (error instanceof BlockError && error.errno === 'EIO') return { ok: false, full: false }
    throw error
  }
}

/** Does the extent read as zeroes on every leg? Evidence for the trace. */
export async function readsZero({ legs, layout }: EffectContext, extent: number): Promise<boolean> {
  const address = extentAddress(layout, extent)
  for (const { device } of legs) {
    if (device.blockStatus !== undefined && device.caps.blockStatus) {
      const [first] = await device.blockStatus(address, layout.extentBytes, OWNER_IO)
      if (first?.zero === true && first.length >= layout.extentBytes) continue
    }
    if (!isZero(await readBytes(device, address, layout.extentBytes, OWNER_IO))) return false
  }
  return true
}

async function assignSlot({ legs, layout }: EffectContext, slot: number, host: string): Promise<void> {
  const sealer = new Sealer(layout.volumeId)
  const address = slotAddress(layout, slot)
  // One that cannot be read reads as none: the slot is written as a whole.
  const { bytes } = await readWhatCan(legs[0]!.device, address, BLOCK_BYTES, SPARED_IO)
  const before = decodeSlotHeader(bytes, sealer, address)
  const sequence = before === null || before === 'damaged' ? 1 : before.sequence + 1
  await prepareSlot(legs, layout, { slot, host, sequence }, sealer, OWNER_IO)
}

/**
 * What the slot marks is made equal on the legs that are written to, and written down for one that is not; then it marks
 * nothing any more. A sector of the slot that does not check out may have marked anything: then all that the host held, but not
 * what was on its way to or from another: that one may be writing there, though not where this one has marked anything. Gives the
 * regions of which something cannot be read that a leg lacks which catches up: it still does.
 */
async function recoverSlot(
  context: EffectContext,
  effect: Extract<Effect, { type: 'recover-slot' }>,
): Promise<ReadonlySet<number>> {
  const { legs, inSync, layout, behind } = context
  const { slot } = effect
  const missed = new Set<number>()
  if (!canary('slot-reused-without-recovery') && (legs.length > 1 || behind !== null)) {
    const { marked, perhaps } = await markedRegions(legs.slice(0, inSync), layout, effect)
    if (legs.length > inSync) for (const region of perhaps) missed.add(region)
    if (behind !== null) {
      const log = staleLogOn(legs, {
        volumeId: layout.volumeId,
        slotOffset: slotAddress(layout, slot),
        regionCount: regionCount(layout),
      })
      await log.mark(behind, [...marked, ...perhaps])
    }
    for (const region of marked) {
      const left = await copyRange(legs, inSync, region * layout.regionBytes, layout.regionBytes)
      if (left.length === 0) continue
      // Both may be read again, and differ.
      if (legs.length === inSync) throw new BlockError('EIO', 'none', unreadableText(left))
      missed.add(region)
    }
  }
  await clearIntent(legs, layout, slot, OWNER_IO)
  return missed
}

/**
 * Of what the host held: a slot marks nothing else, and nothing else may be copied, for others are writing there. `perhaps`: what a sector
 * that does not check out may have marked where others may be writing: a leg that lacks something may lack that.
 */
async function markedRegions(
  sources: readonly Leg[],
  layout: Layout,
  { slot, extents, reserved }: Extract<Effect, { type: 'recover-slot' }>,
): Promise<{ readonly marked: readonly number[]; readonly perhaps: readonly number[] }> {
  const sealer = new Sealer(layout.volumeId)
  const marked = new Set<number>()
  let damaged = false
  for (const { device } of sources) {
    const intent = await readIntent(device, slotAddress(layout, slot), sealer, SPARED_IO)
    for (const region of intent.regions) marked.add(region)
    damaged ||= intent.damagedSectors.length > 0
  }
  const perExtent = layout.extentBytes / layout.regionBytes
  const regionsOf = (all: readonly number[]): number[] =>
    all.flatMap(extent => {
      const first = extentAddress(layout, extent) / layout.regionBytes
      return Array.from({ length: perExtent }, (_, i) => first + i)
    })
  const [own, others] = [regionsOf(extents), canary('reserved-not-recovered') ? [] : regionsOf(reserved)]
  const isMarked = (region: number): boolean => marked.has(region)
  return {
    marked: [...own.filter(region => damaged || isMarked(region)), ...others.filter(isMarked)],
    perhaps: damaged ? others.filter(region => !isMarked(region)) : [],
  }
}
