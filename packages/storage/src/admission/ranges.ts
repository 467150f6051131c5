// Which parts of a LUN a connection may write: the metadata range is its owner's, a slot its host's too. Pure.

import type { Layout } from '@stellwerk/protocol/messages/storage.ts'
import type { HostClaim } from './export-name.ts'
import { type Refusal, refusal } from './refusal.ts'

/** Null: every byte of the range may be changed over this connection. */
export function judgeWrite(
  layout: Layout | null,
  claim: HostClaim | null,
  offset: number,
  length: number,
): Refusal | null {
  if (layout === null || claim?.owner != null) return null
  const end = offset + length
  const { metadata } = layout
  let reserved = metadata.length > 0 && offset < metadata.offset + metadata.length && end > metadata.offset
  for (const slot of layout.slots) {
    if (offset >= slot.offset + slot.length || end <= slot.offset) continue
    if (slot.host === claim?.host && offset >= slot.offset && end <= slot.offset + slot.length) return null
    reserved = true
  }
  if (!reserved) return null
  return refusal(
    'owner-only',
    `bytes ${offset} to ${end} hold metadata or another host's slot`,
    'write them over a connection that names owner=E',
  )
}

/** Null: the layout can be used on a LUN of this size. */
export function judgeLayout(layout: Layout, sizeBytes: number): Refusal | null {
  const { metadata, slots } = layout
  for (const range of [metadata, ...slots]) {
    if (range.offset + range.length > sizeBytes) {
      return refusal('bad-layout', `a range ends at ${range.offset + range.length}, the LUN at ${sizeBytes}`)
    }
  }
  const sorted = [...slots].sort((a, b) => a.offset - b.offset)
  for (const [index, slot] of sorted.entries()) {
    const next = sorted[index + 1]
    if (next !== undefined && slot.offset + slot.length > next.offset) {
      return refusal('bad-layout', `the slots of ${slot.host} and ${next.host} overlap at ${next.offset}`)
    }
  }
  return null
}

/** Every slot that the earlier one reserves for a host this one does too. */
export function hasSlotsOf(layout: Layout, earlier: Layout | null): boolean {
  const here = new Set(layout.slots.map(slotKey))
  return earlier === null || earlier.slots.every(slot => here.has(slotKey(slot)))
}

function slotKey({ host, offset, length }: Layout['slots'][number]): string {
  return `${offset}+${length} ${host}`
}
