// The journal: a ring of records, each checksummed over its own address, each one number after the one before. A record
// never wraps: what does not fit before the end of the ring stands at its start. Only one record is ever being written,
// so whatever stands before a good record was durable, and a gap in the numbers is damage, not a crash.

import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { ByteWriter, getU64, setU64, viewOf } from './bytes.ts'
import type { Sealer } from './checksum.ts'
import type { Readout } from './device-io.ts'
import { readEntries, writeEntry } from './entries.ts'
import { BLOCK_BYTES, blocks, type Layout, RECORD, RECORD_HEADER_BYTES } from './layout.ts'
import type { Entry } from './metadata.ts'

export const RECORD_MAGIC = 0x524a5753

export interface JournalRecord {
  readonly sequence: number
  readonly ownerEpoch: number
  /** In the ring. */
  readonly position: number
  /** Whole blocks. */
  readonly length: number
  readonly entryCount: number
  readonly payload: Uint8Array
}

/** The longest record, header and padding included, so that two checkpoints' worth always fit the ring. */
export function maxRecordBytes(layout: Layout): number {
  return Math.min(64 * 1024, Math.floor(layout.journalBytes / 16 / BLOCK_BYTES) * BLOCK_BYTES)
}

/** Journal bytes after which a checkpoint is due: what two of them and the records in between can take is in the ring. */
export function checkpointAfterBytes(layout: Layout): number {
  return Math.floor((layout.journalBytes - 6 * maxRecordBytes(layout)) / 2)
}

/** Entries of one record, as bytes; says beforehand how long the record will be. */
export class Payload {
  readonly #writer = new ByteWriter(1024)
  #count = 0

  get entryCount(): number {
    return this.#count
  }

  get recordBytes(): number {
    return blocks(RECORD_HEADER_BYTES + this.#writer.length)
  }

  add(entry: Entry): void {
    writeEntry(this.#writer, entry)
    this.#count += 1
  }

  encode(head: { sequence: number; ownerEpoch: number }, sealer: Sealer, address: number): Uint8Array {
    const content = this.#writer.take()
    const bytes = new Uint8Array(this.recordBytes)
    const view = viewOf(bytes)
    view.setUint32(RECORD.magic.offset, RECORD_MAGIC, true)
    setU64(view, RECORD.sequence.offset, head.sequence)
    setU64(view, RECORD.ownerEpoch.offset, head.ownerEpoch)
    view.setUint32(RECORD.payloadBytes.offset, content.length, true)
    view.setUint32(RECORD.entryCount.offset, this.#count, true)
    bytes.set(content, RECORD_HEADER_BYTES)
    sealer.seal(address, bytes, RECORD.crc.offset)
    return bytes
  }
}

/** Where a record of this length goes when the ring's head is at `position`. */
export function placeRecord(layout: Layout, position: number, length: number): number {
  assert(length <= maxRecordBytes(layout), `a journal record of ${length} bytes is too long`)
  return position + length <= layout.journalBytes ? position : 0
}

/** The record at a position of the ring, or null if none checks out there. */
export function decodeRecord(ring: Uint8Array, position: number, layout: Layout, sealer: Sealer): JournalRecord | null {
  if (position + BLOCK_BYTES > ring.length) return null
  const view = viewOf(ring.subarray(position, position + RECORD_HEADER_BYTES))
  if (view.getUint32(RECORD.magic.offset, true) !== RECORD_MAGIC) return null
  const payloadBytes = view.getUint32(RECORD.payloadBytes.offset, true)
  const length = blocks(RECORD_HEADER_BYTES + payloadBytes)
  if (length > maxRecordBytes(layout) || position + length > ring.length) return null
  const bytes = ring.subarray(position, position + length)
  const sealed = sealer.isSealed(layout.journalOffset + position, bytes, RECORD.crc.offset)
  if (!sealed && !canary('journal-crc-unchecked')) return null
  return {
    sequence: getU64(view, RECORD.sequence.offset),
    ownerEpoch: getU64(view, RECORD.ownerEpoch.offset),
    position,
    length,
    entryCount: view.getUint32(RECORD.entryCount.offset, true),
    payload: bytes.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + payloadBytes),
  }
}

export interface Replay {
  readonly records: readonly JournalRecord[]
  /** Where the next record may be placed. */
  readonly position: number
}

/**
 * The records after `from.sequence`, in order, exactly to the journal's end. A good record beyond the end, or one whose
 * owner epoch is older than its predecessor's, is damage: `journal-damaged`, `journal-epoch`. So is a block that cannot be read
 * where the next record may stand: nobody can say that the journal ends before it. Elsewhere such blocks do not matter.
 */
export function replayJournal(
  { bytes: ring, unreadable }: Readout,
  layout: Layout,
  sealer: Sealer,
  from: { readonly sequence: number; readonly ownerEpoch: number; readonly journalPosition: number },
): Replay {
  const records: JournalRecord[] = []
  let { sequence, ownerEpoch, journalPosition: position } = from
  for (;;) {
    const record = next(ring, layout, sealer, position, sequence + 1)
    if (record === null) break
    if (record.ownerEpoch < ownerEpoch) {
      throw damaged(
        'journal-epoch',
        layout,
        `record ${record.sequence} is of owner epoch ${record.ownerEpoch}, after ${ownerEpoch}`,
      )
    }
    records.push(record)
    ;({ sequence, ownerEpoch } = record)
    position = record.position + record.length
  }
  const hidden = hiddenNext(ring, unreadable, layout, position, sequence + 1)
  if (hidden !== null && !canary('unreadable-is-journal-end')) {
    const block = layout.journalOffset + hidden
    throw damaged(
      'journal-damaged',
      layout,
      `record ${sequence + 1} may stand where the block at byte ${block} of the volume cannot be read`,
    )
  }
  const beyond = firstBeyond(ring, layout, sealer, records, sequence)
  if (beyond !== null) {
    throw damaged(
      'journal-damaged',
      layout,
      `record ${sequence + 1} is missing, but there is a later one, ${beyond.sequence}`,
    )
  }
  return { records, position }
}

/** Nothing in it begins a record, whole or not. */
export function isBlankRing(ring: Uint8Array): boolean {
  const view = viewOf(ring)
  for (let at = 0; at < ring.length; at += BLOCK_BYTES) {
    if (view.getUint32(at + RECORD.magic.offset, true) === RECORD_MAGIC) return false
  }
  return true
}

export function entriesOf(record: JournalRecord): Entry[] {
  return readEntries(record.payload, record.entryCount)
}

function next(
  ring: Uint8Array,
  layout: Layout,
  sealer: Sealer,
  position: number,
  sequence: number,
): JournalRecord | null {
  for (const at of position === 0 ? [0] : [position, 0]) {
    const record = decodeRecord(ring, at, layout, sealer)
    if (record?.sequence === sequence) return record
  }
  return null
}

/** The first block that cannot be read of those in which record `sequence` would stand, if there is one. */
function hiddenNext(
  ring: Uint8Array,
  unreadable: ReadonlySet<number>,
  layout: Layout,
  position: number,
  sequence: number,
): number | null {
  if (unreadable.size === 0) return null
  // At the start if it was too long for what is left at the end.
  const mayNotFit = position + maxRecordBytes(layout) > layout.journalBytes
  for (const start of mayNotFit ? [position, 0] : [position]) {
    const length = unreadable.has(start) ? BLOCK_BYTES : announcedBytes(ring, start, layout, sequence)
    for (let at = start; at < start + length; at += BLOCK_BYTES) if (unreadable.has(at)) return at
  }
  return null
}

/** How long the record is that begins there by what its head says, if that is of this number; it may be torn. */
function announcedBytes(ring: Uint8Array, at: number, layout: Layout, sequence: number): number {
  if (at + BLOCK_BYTES > ring.length) return 0
  const view = viewOf(ring.subarray(at, at + RECORD_HEADER_BYTES))
  if (view.getUint32(RECORD.magic.offset, true) !== RECORD_MAGIC) return 0
  if (getU64(view, RECORD.sequence.offset) !== sequence) return 0
  const length = blocks(RECORD_HEADER_BYTES + view.getUint32(RECORD.payloadBytes.offset, true))
  return Math.min(length, maxRecordBytes(layout))
}

/** A good record with a number above `sequence` anywhere in the ring outside the replayed ones. */
function firstBeyond(
  ring: Uint8Array,
  layout: Layout,
  sealer: Sealer,
  replayed: readonly JournalRecord[],
  sequence: number,
): JournalRecord | null {
  const ends = new Map(replayed.map(record => [record.position, record.position + record.length]))
  for (let at = 0; at < ring.length; ) {
    const end = ends.get(at)
    if (end !== undefined) {
      at = end
      continue
    }
    const record = decodeRecord(ring, at, layout, sealer)
    if (record !== null && record.sequence > sequence) return record
    at += BLOCK_BYTES
  }
  return null
}

function damaged(code: 'journal-damaged' | 'journal-epoch', layout: Layout, what: string): StellwerkError {
  return new StellwerkError(code, `the volume's journal is damaged: ${what}`, {
    where: layout.volumeId,
    hint: 'run `stellwerk volume check` on each leg; a good leg of the mirror can replace this one',
  })
}
