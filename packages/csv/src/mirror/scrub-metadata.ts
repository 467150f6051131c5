// The metadata of a volume, compared on its legs while its owner stands still. Between the superblocks and the slots all
// in-sync legs hold the same bytes: the owner made them so when it opened, and has written every leg since. What differs is
// copied from the leg whose checksum holds there, and only if no other leg's does.

import { BlockError } from '@stellwerk/block/device.ts'
import {
  type ScrubFinding,
  type ScrubHost,
  type ScrubLeg,
  scrubLegs,
  type Verdict,
} from '@stellwerk/block/mirror/scrub.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { checkpointLength, decodeCheckpoint } from '../format/checkpoint.ts'
import { Sealer } from '../format/checksum.ts'
import { clusterCopyAddress, sealedClusterCopyBytes } from '../format/cluster-copy.ts'
import { readWhatCan, writeBytes } from '../format/device-io.ts'
import { decodeRecord } from '../format/journal.ts'
import {
  BLOCK_BYTES,
  checkpointAddress,
  type Layout,
  ownerSlotAddress,
  SLOT_INTENT_OFFSET,
  SUPERBLOCK_OFFSETS,
  slotAddress,
} from '../format/layout.ts'
import { decodeSlotHeader } from '../format/slot.ts'
import { encodeSuperblock, readSuperblockCopies, type Superblock } from '../format/superblock.ts'
import { slotJudge } from './slot-judge.ts'

export type Placed = ScrubFinding & { readonly where: string }

export interface MetadataScrub {
  readonly legs: readonly ScrubLeg[]
  readonly layout: Layout
  /** Slots of hosts: all but their headers is theirs. */
  readonly taken: ReadonlySet<number>
  readonly goodLeg: string | null
  readonly host: ScrubHost
}

/** Says of a structure's copies, one a leg, how many bytes check out from which offset on. */
type Sealed = (image: Uint8Array) => readonly { readonly at: number; readonly length: number }[]

export async function scrubMetadata(scrub: MetadataScrub): Promise<Placed[]> {
  const { layout } = scrub
  const sealer = new Sealer(layout.volumeId)
  const found = await scrubSuperblocks(scrub)
  for (const area of [0, 1]) {
    const address = checkpointAddress(layout, area)
    const sealed: Sealed = image => checkpointIn(image, layout, sealer, address)
    found.push(...(await scrubStructure(scrub, `checkpoint ${area}`, address, layout.checkpointBytes, sealed)))
  }
  const records: Sealed = ring => recordsIn(ring, layout, sealer)
  found.push(...(await scrubStructure(scrub, 'journal', layout.journalOffset, layout.journalBytes, records)))
  for (const area of [0, 1]) {
    const address = clusterCopyAddress(layout, area)
    const sealed: Sealed = image => {
      const length = sealedClusterCopyBytes(image, layout, address)
      return length === null ? [] : [{ at: 0, length }]
    }
    found.push(...(await scrubStructure(scrub, `cluster copy ${area}`, address, layout.clusterCopyBytes, sealed)))
  }
  for (let slot = 0; slot < layout.slotCount; slot += 1) {
    const address = slotAddress(layout, slot)
    const sealed: Sealed = image => {
      const header = decodeSlotHeader(image, sealer, address)
      return header === null || header === 'damaged' ? [] : [{ at: 0, length: BLOCK_BYTES }]
    }
    found.push(...(await scrubStructure(scrub, `slot ${slot}`, address, BLOCK_BYTES, sealed)))
    if (!scrub.taken.has(slot)) found.push(...(await scrubIdleSlot(scrub, `slot ${slot}`, address)))
  }
  found.push(...(await scrubIdleSlot(scrub, "the owner's slot", ownerSlotAddress(layout))))
  return found
}

/** What stands behind the header of a slot that nobody writes to now: what differs there matters only if it is damaged. */
export async function scrubIdleSlot(scrub: MetadataScrub, where: string, slotAt: number): Promise<Placed[]> {
  const { legs, layout, goodLeg, host } = scrub
  const judge = slotJudge(new Sealer(layout.volumeId), slotAt, false)
  const length = layout.slotBytes - SLOT_INTENT_OFFSET
  const options = { block: BLOCK_BYTES, judge, goodLeg }
  return placed(where, await scrubLegs(legs, slotAt + SLOT_INTENT_OFFSET, length, options, host))
}

async function scrubStructure(
  { legs, goodLeg, host }: MetadataScrub,
  where: string,
  address: number,
  length: number,
  sealed: Sealed,
): Promise<Placed[]> {
  const good: Uint8Array[] = []
  for (const { device } of legs) {
    const blocks = new Uint8Array(length / BLOCK_BYTES)
    const { bytes: image } = await readWhatCan(device, address, length, host.io)
    for (const { at, length: bytes } of sealed(image)) blocks.fill(1, at / BLOCK_BYTES, (at + bytes) / BLOCK_BYTES)
    good.push(blocks)
  }
  const judge = (offset: number): Verdict => {
    const block = (offset - address) / BLOCK_BYTES
    const holds = good.flatMap((blocks, i) => (blocks[block] === 1 ? [i] : []))
    return holds.length === 1 ? holds[0]! : null
  }
  return placed(where, await scrubLegs(legs, address, length, { block: BLOCK_BYTES, judge, goodLeg }, host))
}

function placed(where: string, findings: readonly ScrubFinding[]): Placed[] {
  return findings.map(finding => ({ ...finding, where }))
}

function checkpointIn(image: Uint8Array, layout: Layout, sealer: Sealer, address: number): ReturnType<Sealed> {
  const length = checkpointLength(image.subarray(0, BLOCK_BYTES), layout)
  if (length === null) return []
  try {
    const checkpoint = decodeCheckpoint(image.subarray(0, length), layout, sealer, address)
    return checkpoint === null ? [] : [{ at: 0, length }]
  } catch (error) {
    if (errorCode(error) !== 'malformed') throw error
    return []
  }
}

function recordsIn(ring: Uint8Array, layout: Layout, sealer: Sealer): ReturnType<Sealed> {
  const records: { at: number; length: number }[] = []
  for (let at = 0; at < ring.length; at += BLOCK_BYTES) {
    const record = decodeRecord(ring, at, layout, sealer)
    if (record !== null) records.push({ at, length: record.length })
  }
  return records
}

/** Each leg's own says which leg it is: a bad copy is written anew from its sibling, else from the other leg's, renamed. */
async function scrubSuperblocks({ legs, host }: MetadataScrub): Promise<Placed[]> {
  const found: Placed[] = []
  const all: { readonly leg: ScrubLeg; readonly copies: (Superblock | null)[]; readonly unreadable: boolean[] }[] = []
  for (const leg of legs) {
    const there = await readSuperblockCopies(leg.device, host.io)
    const copies = there.map(copy => (typeof copy === 'string' ? null : copy))
    all.push({ leg, copies, unreadable: there.map(copy => copy === 'unreadable') })
  }
  for (const { leg, copies, unreadable } of all) {
    for (const [n, address] of SUPERBLOCK_OFFSETS.entries()) {
      if (copies[n] !== null) continue
      const sibling = newest(copies)
      const other = all.find(({ copies: theirs }) => newest(theirs) !== null)
      const model = sibling ?? (other === undefined ? null : renamed(newest(other.copies)!, leg.id))
      const from = sibling === null ? other?.leg.id : leg.id
      const kind = unreadable[n] === true ? 'unreadable' : 'differs'
      const finding = {
        kind,
        offset: address,
        length: BLOCK_BYTES,
        legs: [leg.id],
        where: `superblock at ${address}`,
      } as const
      if (model === null || from === undefined) {
        found.push({ ...finding, repaired: null, why: 'no copy of it is good' })
        continue
      }
      host.stands()
      try {
        await writeBytes(leg.device, address, encodeSuperblock(model, address), host.io)
      } catch (error) {
        if (!(error instanceof BlockError) || error.errno === 'ESHUTDOWN' || error.retryable) throw error
        const why = `it did not take a superblock: ${error.message}`
        host.failed(leg.id, why)
        found.push({ ...finding, repaired: null, why })
        continue
      }
      found.push({ ...finding, repaired: { leg: leg.id, from, by: 'checksum' }, why: null })
    }
  }
  return found
}

function newest(copies: readonly (Superblock | null)[]): Superblock | null {
  return copies.reduce<Superblock | null>(
    (a, b) => (b === null || (a !== null && a.version >= b.version) ? a : b),
    null,
  )
}

/** Two legs: the one that is not at the other's place is at the remaining one. */
function renamed(model: Superblock, legId: string): Superblock {
  return { ...model, legId, legIndex: 1 - model.legIndex }
}
