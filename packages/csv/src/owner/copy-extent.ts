// Copying one extent to another: read from the first in-sync leg that can, written to all. What reads as
// zeroes is made so without being carried, so that a thin disk's copy stays thin. A spot that a leg cannot read is left as it is, for a
// scrub or a guest's read: it may be a guest's to write by now.

import { BlockError } from '@stellwerk/block/device.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { isZero, type Leg, OWNER_IO, settleAll, writeLegs, zeroRange } from '../format/device-io.ts'
import { extentAddress, type Layout } from '../format/layout.ts'
import { readAny } from '../mirror/copy-range.ts'
import type { EffectOutcome } from './state.ts'

/** Carried at a time: so much of a copy is in memory. */
const COPY_BYTES = 1024 * 1024

export async function copyExtent(
  legs: readonly Leg[],
  /** So many of them, from the first, may be read. */
  inSync: number,
  layout: Layout,
  from: number,
  to: number,
): Promise<EffectOutcome> {
  if (canary('unshared-before-copy')) return { ok: true }
  const { extentBytes } = layout
  const source = extentAddress(layout, from)
  const target = extentAddress(layout, to)
  const step = Math.min(COPY_BYTES, extentBytes)
  for (let at = 0; at < extentBytes; at += step) {
    const bytes = await readAny(legs.slice(0, inSync), source + at, step)
    if (bytes === null) return { ok: false, full: false, unreadable: true }
    try {
      if (isZero(bytes)) await settleAll(legs.map(leg => zeroRange(leg.device, target + at, step, OWNER_IO)))
      else await writeLegs(legs, target + at, bytes, OWNER_IO)
    } catch (error) {
      if (error instanceof BlockError && error.errno === 'ENOSPC') return { ok: false, full: true }
      if (error instanceof BlockError && error.errno === 'EIO') return { ok: false, full: false }
      throw error
    }
  }
  return { ok: true }
}
