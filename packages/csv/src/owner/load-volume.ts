// What a new owner reads before it writes anything: its in-sync legs, and whether it may go on. A leg whose own metadata is
// damaged is told apart from a volume that is: another in-sync leg can stand in for it.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { auditMetadata } from '../check/audit-metadata.ts'
import { isLegDamage, isVolumeDamage } from '../check/finding.ts'
import { Sealer } from '../format/checksum.ts'
import { readWhatCan, SPARED_IO } from '../format/device-io.ts'
import { replayJournal } from '../format/journal.ts'
import { KNOWN_RO_COMPAT } from '../format/superblock.ts'
import { furthest, type Loaded, loadLeg, refuseLostJournal } from './load.ts'
import type { VolumeOwnerOptions } from './owner-options.ts'
import type { OwnerLeg } from './settle.ts'

export interface LoadedVolume {
  /** The leg to believe. */
  readonly best: Loaded
  /** All that are in sync. */
  readonly all: readonly Loaded[]
}

interface FailedLeg {
  readonly leg: OwnerLeg
  readonly error: StellwerkError
}

/**
 * Rejects with what the volume's damage is called, with `stale-owner` when a later owner was here, and with `leg-damaged`, after
 * `onLegDamaged`, when the volume can be opened without a leg.
 */
export async function loadVolume(options: VolumeOwnerOptions, legs: readonly OwnerLeg[]): Promise<LoadedVolume> {
  const { volume, ownerEpoch, leastOwnerEpoch = 0 } = options
  const all: Loaded[] = []
  const failed: FailedLeg[] = []
  for (const leg of legs) {
    if (leg.role !== 'in-sync') continue
    try {
      all.push(await loadLeg(leg, options.expected ?? {}))
    } catch (error) {
      if (!(error instanceof StellwerkError) || !isVolumeDamage(error)) throw error
      failed.push({ leg, error })
    }
  }
  // What holds something else is nothing that a resync may write over.
  const strange = failed.find(({ error }) => !isLegDamage(error))
  if (strange !== undefined) throw strange.error
  if (all.length === 0) throw allDamaged(failed)
  const best = furthest(all)
  refuseLostJournal(best, leastOwnerEpoch)
  refuseUnknown(best, volume)
  if (best.metadata.ownerEpoch > ownerEpoch) {
    const message = `owner epoch ${best.metadata.ownerEpoch} has been here, this is ${ownerEpoch}`
    throw new StellwerkError('stale-owner', message, { where: volume })
  }
  const damage = auditMetadata(best.metadata).find(finding => finding.severity === 'damage')
  if (damage !== undefined) {
    throw new StellwerkError('metadata-damaged', `${damage.code}: ${damage.message}`, {
      where: volume,
      hint: 'run `stellwerk volume check`; nothing was changed',
    })
  }
  if (failed.length > 0) throw await legDamaged(failed[0]!, best, options)
  return { best, all }
}

function refuseUnknown({ superblock }: Loaded, where: string): void {
  if ((superblock.superblock.roCompatFeatures & ~KNOWN_RO_COMPAT) === 0) return
  throw new StellwerkError('format-unsupported', 'the volume has features this version can only read', {
    where,
    hint: 'use the version of stellwerk that wrote it, or a newer one',
  })
}

/** No leg is good: the first one's damage, and what the others say. */
function allDamaged([first, ...others]: readonly FailedLeg[]): StellwerkError {
  const { error } = first!
  if (others.length === 0) return error
  const message = [error.message, ...others.map(({ leg, error: its }) => `leg ${leg.id}: ${its.message}`)].join('; ')
  return damagedAs(error, message)
}

/**
 * A leg is damaged, another is whole. The whole one may be believed: what was acknowledged is on all in-sync legs, the owner that
 * the storages know of as the last one to finish opening is in its journal, and the damaged one has no record that it lacks. If that has one,
 * either nobody was told of it, or the whole leg has lost it: which of the two cannot be said, so the volume is refused.
 */
async function legDamaged(
  { leg, error }: FailedLeg,
  best: Loaded,
  options: VolumeOwnerOptions,
): Promise<StellwerkError> {
  if (await goesOn(leg, best)) {
    return damagedAs(error, `${error.message}; yet its journal goes on where that of leg ${best.leg.id} ends`)
  }
  options.onLegDamaged?.(leg.id, `its metadata is damaged: ${error.message}`)
  return new StellwerkError('leg-damaged', `leg ${leg.id} of the volume is damaged: ${error.message}`, {
    where: options.volume,
    hint: `leg ${best.leg.id} is whole: the volume goes on without the damaged one, which is resynced; scrub the volume then`,
    retryable: true,
    cause: error,
  })
}

function damagedAs(error: StellwerkError, message: string): StellwerkError {
  const { where = 'volume', hint = 'run `stellwerk volume check`' } = error
  return new StellwerkError(error.code, message, { where, hint, cause: error })
}

/** Has it a good record that `best` has not, though both are in sync? What cannot be read there says nothing against `best`. */
async function goesOn(leg: OwnerLeg, { layout, metadata, sequence, position }: Loaded): Promise<boolean> {
  const { bytes } = await readWhatCan(leg.device, layout.journalOffset, layout.journalBytes, SPARED_IO)
  const end = { sequence, ownerEpoch: metadata.ownerEpoch, journalPosition: position }
  try {
    return replayJournal({ bytes, unreadable: new Set() }, layout, new Sealer(layout.volumeId), end).records.length > 0
  } catch (error) {
    if (!isVolumeDamage(error)) throw error
    return true
  }
}
