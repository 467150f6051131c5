// The last act: the cluster has ended, and what it left is looked at from outside. Its processes are gone, its volume has no
// damage, its ledgers are whole, its traces keep the rules.

import { checkVolume } from '@stellwerk/csv/check.ts'
import type { Files, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { LUN_DIRECTORY } from '@stellwerk/storage/lun/lun.ts'
import type { HeardLedger } from '../observer/heard-ledger.ts'
import { VolumeReader } from './disk-ledger.ts'
import { judge, type Verdict } from './judge.ts'
import { LunImage } from './lun-image.ts'

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
  readonly files: Files
  readonly storages: readonly string[]
  readonly ledgers: readonly HeardLedger[]
  readonly processes: readonly string[]
  readonly observed: readonly TraceRecord[]
  readonly leaseMs: number
}): Promise<Audit> {
  const { files } = options
  const image = await findLun(files, options.storages)
  try {
    const leg = { id: image.path, device: image.device }
    const report = await checkVolume([leg])
    const volume = await VolumeReader.open(leg)
    const ledgers: LedgerFigures[] = []
    for (const heard of options.ledgers) ledgers.push(await compare(heard, volume))
    const findings = report.findings.map(({ code, where, message }) => `${code} at ${where}: ${message}`)
    return { ledgers, verdict: await judge(options), findings }
  } finally {
    await image.device.close()
  }
}

/** The demo's one volume has one leg: a LUN on one of the storages. */
async function findLun(files: Files, storages: readonly string[]): Promise<{ path: string; device: LunImage }> {
  for (const storage of storages) {
    const directory = `${storage}/${LUN_DIRECTORY}`
    const data = (await files.list(directory)).find(name => name.endsWith('.data'))
    if (data === undefined) continue
    const path = `${directory}/${data}`
    return { path, device: await LunImage.open(files, path) }
  }
  throw new StellwerkError('lun-missing', `no storage has a LUN: ${storages.join(', ')}`)
}

async function compare(heard: HeardLedger, volume: VolumeReader): Promise<LedgerFigures> {
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
