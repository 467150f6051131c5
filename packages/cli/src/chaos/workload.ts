// The workload of a plan: how much room its guests' ledgers need, and, where real machines run it, the body that makes one of them.

import { LOG_START } from '@stellwerk/agent/guests/ledger-format.ts'
import { GIB, HOUR_MS, MIB, MINUTE_MS, SECOND_MS } from '@stellwerk/runtime/units.ts'
import type { ChaosWorkload } from './target.ts'

export interface LedgerGuest {
  readonly name: string
  readonly volume: string
  /** Null: wherever there is room. */
  readonly host: string | null
}

/** Entries are of one or two sectors, every third of two. */
const ENTRY_BYTES = (4 / 3) * 512
/** The longest plan, and the time around it. */
const LOG_MS = HOUR_MS + 10 * MINUTE_MS
const EXTENT_BYTES = 4 * MIB
/** Of a volume: metadata, and room to spare. */
const REST_BYTES = 256 * MIB
const VOLUME_LEAST_BYTES = GIB

/** A disk with room for the ledger of the longest plan, and `moreBytes` behind it; thin, as all disks are. */
export function diskBytesOf({ writesPerSecond }: ChaosWorkload, moreBytes = 0): number {
  const log = LOG_START + (LOG_MS / SECOND_MS) * writesPerSecond * ENTRY_BYTES
  return Math.ceil((log + moreBytes) / EXTENT_BYTES) * EXTENT_BYTES
}

/** A volume with room for all of their disks. */
export function volumeBytesOf(workload: ChaosWorkload): number {
  return Math.max(VOLUME_LEAST_BYTES, workload.vms * diskBytesOf(workload) + REST_BYTES)
}

/** For `POST /v1/vms`: a guest that checks itself. */
export function ledgerVm(workload: ChaosWorkload, { name, volume, host }: LedgerGuest) {
  return {
    name,
    guest: 'ledger',
    memoryBytes: workload.memoryBytes,
    parameters: {
      dirtyMiBPerSecond: workload.dirtyBytesPerSecond / MIB,
      writesPerSecond: workload.writesPerSecond,
    },
    disks: [{ volume, sizeBytes: diskBytesOf(workload) }],
    host,
  }
}

export function vmNamesOf({ vms }: ChaosWorkload): string[] {
  return Array.from({ length: vms }, (_, i) => `ledger-${i + 1}`)
}
