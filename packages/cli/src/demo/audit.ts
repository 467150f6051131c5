// The last act: the cluster has ended, and what it left is looked at from outside. Its processes are gone, its volume has no
// damage, its ledgers are whole, its traces keep the rules.

import { checkVolume } from '@stellwerk/csv/check.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { filesOf } from '../cluster/directory.ts'
import { legsOf } from '../cluster/lun-legs.ts'
import type { HeardLedger } from '../observer/heard-ledger.ts'
import { VolumeReader } from './disk-ledger.ts'
import { judge, type Verdict } from './judge.ts'

export interface LedgerFigures {
  readonly vm: string
  /** On its disk, whole and in order from the first. */
  readonly entries: number
  /** Acknowledged, as heard outside all hosts, and not on the disk. */
  readonly lost: number
  /** Acknowledged more than once, or on the disk where they don't belong. */
  readonly duplicated: number
  /** Entries heard outside as they were acknowledged; others were said while a link was down. */
  readonly heard: number
  readonly boots: number
  /** What the guest itself found damaged, in its words. */
  readonly damages: readonly string[]
}

export interface Audit {
  readonly ledgers: readonly LedgerFigures[]
  readonly verdict: Verdict
  /** What `volume check` finds on the storage that was left. */
  readonly findings: readonly string[]
}

export async function audit(options: {
  readonly directory: string
  readonly volume: string
  readonly ledgers: readonly HeardLedger[]
  readonly processes: readonly string[]
  readonly observed: readonly TraceRecord[]
  readonly leaseMs: number
}): Promise<Audit> {
  const { legs, leastOwnerEpoch, close } = await legsOf(options.directory, options.volume)
  try {
    const report = await checkVolume(legs, {}, leastOwnerEpoch)
    const [leg] = legs
    assert(leg !== undefined, 'a volume has a leg')
    const volume = await VolumeReader.open(leg)
    const ledgers: LedgerFigures[] = []
    for (const heard of options.ledgers) ledgers.push(await compareLedger(heard, volume))
    const findings = report.findings
      .filter(({ severity }) => severity !== 'degraded')
      .map(({ code, where, message }) => `${code} at ${where}: ${message}`)
    return { ledgers, verdict: await judge({ ...options, files: filesOf(options.directory) }), findings }
  } finally {
    await close()
  }
}

export async function compareLedger(heard: HeardLedger, volume: VolumeReader): Promise<LedgerFigures> {
  const { vm } = heard
  const disk = await volume.ledger(`${vm}-0`, vm)
  return {
    vm,
    entries: disk.entries,
    lost: Math.max(0, heard.highest - disk.entries),
    duplicated: heard.duplicated + disk.misplaced.length,
    heard: heard.heard,
    boots: heard.boots.length,
    damages: [...heard.complaints],
  }
}
