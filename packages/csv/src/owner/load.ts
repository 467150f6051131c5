// Reading a volume: superblock, the newest good checkpoint, the journal from there. Never writes. Two legs can differ where
// an owner died between them: the one whose journal goes further is the truth, and settle.ts makes the other equal.

import { BlockError } from '@stellwerk/block/device.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Checkpoint, checkpointLength, decodeCheckpoint } from '../format/checkpoint.ts'
import { Sealer } from '../format/checksum.ts'
import { type Leg, type Readout, readWhatCan, SPARED_IO } from '../format/device-io.ts'
import { entriesOf, isBlankRing, type JournalRecord, replayJournal } from '../format/journal.ts'
import { BLOCK_BYTES, checkpointAddress, type Layout } from '../format/layout.ts'
import { applyEntry, type Metadata } from '../format/metadata.ts'
import { type Expected, type FoundSuperblock, findSuperblock } from '../format/superblock.ts'

export interface Loaded {
  readonly leg: Leg
  readonly layout: Layout
  readonly superblock: FoundSuperblock
  /** The areas' good checkpoints; null where there is none. */
  readonly checkpoints: readonly (Checkpoint | null)[]
  /** The one that was used. */
  readonly checkpoint: Checkpoint
  readonly ring: Readout
  readonly records: readonly JournalRecord[]
  /** Of the last record. */
  readonly sequence: number
  /** Where in the ring the next record may be placed. */
  readonly position: number
  readonly metadata: Metadata
}

/** Errors name the leg. */
export async function loadLeg(leg: Leg, expected: Expected): Promise<Loaded> {
  try {
    return await load(leg, expected)
  } catch (error) {
    if (!(error instanceof StellwerkError) || error instanceof BlockError) throw error
    const { code, message, hint, retryable, where = 'volume' } = error
    throw new StellwerkError(code, message, {
      where: `${where} leg ${leg.id}`,
      ...(hint === undefined ? {} : { hint }),
      retryable,
      cause: error,
    })
  }
}

async function load(leg: Leg, expected: Expected): Promise<Loaded> {
  const superblock = await findSuperblock(leg.device, expected, SPARED_IO)
  const { layout } = superblock.superblock
  const sealer = new Sealer(layout.volumeId)
  const checkpoints = [await loadCheckpoint(leg, layout, sealer, 0), await loadCheckpoint(leg, layout, sealer, 1)]
  const checkpoint = newest(checkpoints)
  if (checkpoint === null) {
    throw new StellwerkError('checkpoint-damaged', 'both checkpoints of the volume are damaged', {
      where: layout.volumeId,
      hint: 'restore the leg from its mirror or from a backup',
    })
  }
  const ring = await readWhatCan(leg.device, layout.journalOffset, layout.journalBytes, SPARED_IO)
  const { records, position } = replayJournal(ring, layout, sealer, checkpoint)
  // No owner ever blanks the ring: what a checkpoint counts was written there.
  if (checkpoint.sequence > 0 && records.length === 0 && isBlankRing(ring.bytes)) {
    throw new StellwerkError('journal-damaged', `the volume's journal is blank, after ${checkpoint.sequence} records`, {
      where: layout.volumeId,
      hint: LOST_HINT,
    })
  }
  const { metadata } = checkpoint
  for (const record of records) applyRecord(metadata, record)
  return {
    leg,
    layout,
    superblock,
    checkpoints,
    checkpoint,
    ring,
    records,
    sequence: records.at(-1)?.sequence ?? checkpoint.sequence,
    position,
    metadata,
  }
}

const LOST_HINT =
  'run `stellwerk volume check`; put the LUN back from a good leg or a backup: nothing is written to it meanwhile'

/**
 * Throws `journal-lost` when the journal ends before an owner of whom the storage knows that its record was durable: what
 * the volume says of its extents is old then, and handing them out would overwrite what others hold.
 */
export function refuseLostJournal({ leg, metadata, layout }: Loaded, leastOwnerEpoch: number): void {
  if (metadata.ownerEpoch >= leastOwnerEpoch) return
  throw new StellwerkError('journal-lost', lostJournal(metadata.ownerEpoch, leastOwnerEpoch), {
    where: `${layout.volumeId} leg ${leg.id}`,
    hint: LOST_HINT,
  })
}

export function lostJournal(found: number, least: number): string {
  return `the journal ends at owner epoch ${found}, but the storage knows that it got as far as ${least}: records are lost`
}

/** Here an entry that makes no sense comes from the volume: it is damage, not a bug. */
function applyRecord(metadata: Metadata, record: JournalRecord): void {
  try {
    for (const entry of entriesOf(record)) applyEntry(metadata, entry)
    metadata.ownerEpoch = record.ownerEpoch
  } catch (error) {
    throw new StellwerkError('journal-inconsistent', `journal record ${record.sequence}: ${errorMessage(error)}`, {
      where: metadata.layout.volumeId,
      hint: 'run `stellwerk volume check` on each leg; a good leg of the mirror can replace this one',
      cause: error,
    })
  }
}

/** Null if it does not check out, or cannot be read. */
export async function loadCheckpoint(
  leg: Leg,
  layout: Layout,
  sealer: Sealer,
  area: number,
): Promise<Checkpoint | null> {
  const address = checkpointAddress(layout, area)
  const first = await readWhatCan(leg.device, address, BLOCK_BYTES, SPARED_IO)
  const length = checkpointLength(first.bytes, layout)
  if (length === null) return null
  const { bytes } = await readWhatCan(leg.device, address, length, SPARED_IO)
  return decodeCheckpoint(bytes, layout, sealer, address)
}

/**
 * Does each of the two checkpoints, with the journal, give the present? Where one does not, the journal keeps no more than the
 * other needs, and a writer that goes by that one alone would soon have no room.
 */
export function isRedundant({ checkpoint, checkpoints, ring, layout, sequence, position }: Loaded): boolean {
  const older = checkpoints.find(each => each !== null && each.version < checkpoint.version)
  if (!older) return false
  try {
    const replay = replayJournal(ring, layout, new Sealer(layout.volumeId), older)
    return replay.position === position && (replay.records.at(-1)?.sequence ?? older.sequence) === sequence
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    return false
  }
}

/**
 * The leg to believe: the furthest journal, then the newest good checkpoint, then the first named. Legs of different volumes
 * are refused.
 */
export function furthest(loaded: readonly Loaded[]): Loaded {
  let best = loaded[0]!
  for (const other of loaded) {
    if (other.layout.volumeId !== best.layout.volumeId) {
      throw new StellwerkError(
        'foreign-volume',
        `legs ${best.leg.id} and ${other.leg.id} belong to different volumes`,
        {
          where: best.layout.volumeId,
        },
      )
    }
    const further = other.sequence - best.sequence
    if (further > 0 || (further === 0 && other.checkpoint.version > best.checkpoint.version)) best = other
  }
  return best
}

function newest(checkpoints: readonly (Checkpoint | null)[]): Checkpoint | null {
  let best: Checkpoint | null = null
  for (const checkpoint of checkpoints) {
    if (checkpoint !== null && (best === null || checkpoint.version > best.version)) best = checkpoint
  }
  return best
}
