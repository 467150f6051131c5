// `volume check`: proves the format's invariants on the legs of a volume. Reads only; nobody may write metadata meanwhile. `repairLeaks`
// gives back extents that nothing maps, and touches nothing else.

import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import {
  auditCheckpoints,
  auditClusterCopy,
  auditMisdirected,
  auditMissingCopy,
  auditSuperblocks,
  auditUnreadable,
} from './check/audit-copies.ts'
import { auditMetadata } from './check/audit-metadata.ts'
import { auditSlotAreas } from './check/audit-slots.ts'
import { type Finding, finding, isFindingCode } from './check/finding.ts'
import { type Leg, readWhatCan, SPARED_IO } from './format/device-io.ts'
import type { Layout } from './format/layout.ts'
import { type Expected, findSuperblock } from './format/superblock.ts'
import { JournalWriter } from './owner/journal-writer.ts'
import { furthest, type Loaded, loadLeg, lostJournal } from './owner/load.ts'
import { settle } from './owner/settle.ts'

export interface CheckReport {
  /** Nothing contradicts itself and nothing is lost. Copies may be bad where another serves. */
  readonly clean: boolean
  readonly findings: readonly (Finding & { readonly leg: string })[]
  /** Null when the volume can't be read at all. */
  readonly summary: null | {
    readonly volumeId: string
    readonly disks: number
    readonly usedExtents: number
    readonly extents: number
    readonly sequence: number
    readonly ownerEpoch: number
  }
}

/** `leastOwnerEpoch`: as the storage knows it (`storage.opened`), where it can be asked. */
export async function checkVolume(
  legs: readonly Leg[],
  expected: Expected = {},
  leastOwnerEpoch = 0,
): Promise<CheckReport> {
  const { report, loaded } = await examineVolume(legs, expected, leastOwnerEpoch)
  // Not where a volume is open: its first copy may be under way.
  const missing: (Finding & { leg: string })[] = []
  for (const { leg, metadata } of loaded) {
    for (const each of await auditMissingCopy(leg, metadata)) missing.push({ ...each, leg: leg.id })
  }
  return { ...report, findings: [...report.findings, ...missing] }
}

/** Also what was read, of each leg that can be read. */
export async function examineVolume(
  legs: readonly Leg[],
  expected: Expected,
  leastOwnerEpoch = 0,
): Promise<{ report: CheckReport; loaded: readonly Loaded[] }> {
  const findings: (Finding & { leg: string })[] = []
  const loaded: Loaded[] = []
  for (const leg of legs) {
    const result = await checkLeg(leg, expected)
    findings.push(...result.findings.map(each => ({ ...each, leg: leg.id })))
    if (result.loaded !== null) loaded.push(result.loaded)
  }
  const first = loaded[0]
  for (const other of loaded.slice(1)) {
    if (other.layout.volumeId === first!.layout.volumeId && other.sequence === first!.sequence) continue
    const message = `it is at record ${other.sequence}, leg ${first!.leg.id} at ${first!.sequence}`
    findings.push({ ...finding('legs-differ', 'degraded', 'journal', message), leg: other.leg.id })
  }
  // A leg that was out of sync is behind, and may be; all of them may not.
  const last = Math.max(...loaded.map(({ metadata }) => metadata.ownerEpoch))
  if (first !== undefined && last < leastOwnerEpoch) {
    findings.push({
      ...finding('journal-lost', 'damage', 'journal', lostJournal(last, leastOwnerEpoch)),
      leg: first.leg.id,
    })
  }
  const report: CheckReport = {
    clean: findings.every(({ severity }) => severity === 'degraded'),
    findings,
    summary:
      first === undefined
        ? null
        : {
            volumeId: first.layout.volumeId,
            disks: first.metadata.disks.size,
            usedExtents: first.metadata.usedExtents,
            extents: first.layout.extentCount,
            sequence: first.sequence,
            ownerEpoch: first.metadata.ownerEpoch,
          },
  }
  return { report, loaded }
}

/** How many extents were given back. Refuses a volume with any other damage. As owner: no other may have it open. */
export async function repairLeaks(legs: readonly Leg[], expected: Expected = {}): Promise<number> {
  const { findings } = await checkVolume(legs, expected)
  const damage = findings.find(({ severity }) => severity === 'damage')
  if (damage !== undefined) {
    throw new StellwerkError('metadata-damaged', `${damage.code}: ${damage.message}`, {
      where: damage.where,
      hint: 'only leaks are repaired; restore the leg from its mirror or from a backup',
    })
  }
  const all: Loaded[] = []
  for (const leg of legs) all.push(await loadLeg(leg, expected))
  const best = furthest(all)
  const { metadata } = best
  const leaked = auditMetadata(metadata).filter(({ code }) => code === 'extent-leaked')
  if (leaked.length === 0) return 0
  const owned = all.map(({ leg, superblock }) => ({
    ...leg,
    index: superblock.superblock.legIndex,
    role: 'in-sync' as const,
  }))
  await settle(best, all, owned, best.superblock.superblock.legCount)
  const mapped = new Set([...metadata.disks.values()].flatMap(disk => [...disk.map.values()]))
  for (let extent = 0; extent < metadata.references.length; extent += 1) {
    if (metadata.references[extent]! > 0 && !mapped.has(extent)) {
      metadata.references[extent] = 0
      metadata.usedExtents -= 1
    }
  }
  const writer = new JournalWriter(legs, best, metadata.ownerEpoch)
  await writer.checkpointBoth(metadata)
  return leaked.length
}

async function checkLeg(leg: Leg, expected: Expected): Promise<{ findings: Finding[]; loaded: Loaded | null }> {
  const findings: Finding[] = []
  let layout: Layout
  try {
    findings.push(...(await auditSuperblocks(leg)))
    layout = (await findSuperblock(leg.device, expected, SPARED_IO)).superblock.layout
  } catch (error) {
    return { findings: [...findings, failure(error, 'superblock')], loaded: null }
  }
  let loaded: Loaded | null = null
  try {
    findings.push(...(await auditCheckpoints(leg, layout)))
    findings.push(...(await auditClusterCopy(leg, layout)))
    const ring = await readWhatCan(leg.device, layout.journalOffset, layout.journalBytes, SPARED_IO)
    findings.push(...(await auditUnreadable(leg, layout, ring)))
    findings.push(...auditMisdirected(ring.bytes, layout))
    loaded = await loadLeg(leg, expected)
    findings.push(...auditMetadata(loaded.metadata))
    findings.push(...(await auditSlotAreas(leg.device, loaded.metadata)))
  } catch (error) {
    if (!findings.some(({ code }) => code === errorCode(error))) findings.push(failure(error, 'metadata'))
  }
  return { findings, loaded }
}

function failure(error: unknown, where: string): Finding {
  const code = errorCode(error)
  // A bug in the check is not a finding.
  if (!isFindingCode(code) && !(error instanceof StellwerkError)) throw error
  return finding(isFindingCode(code) ? code : 'unreadable', 'damage', where, errorMessage(error))
}
