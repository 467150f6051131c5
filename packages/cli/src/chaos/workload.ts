// The workload of a plan where real machines run it: the body that makes one of its guests.

import { MIB } from '@stellwerk/runtime/units.ts'
import type { ChaosWorkload } from './target.ts'

export interface LedgerGuest {
  readonly name: string
  readonly volume: string
  readonly diskBytes: number
  /** Null: wherever there is room. */
  readonly host: string | null
}

/** For `POST /v1/vms`: a guest that checks itself. */
export function ledgerVm(workload: ChaosWorkload, { name, volume, diskBytes, host }: LedgerGuest) {
  return {
    name,
    guest: 'ledger',
    memoryBytes: workload.memoryBytes,
    parameters: {
      dirtyMiBPerSecond: workload.dirtyBytesPerSecond / MIB,
      writesPerSecond: workload.writesPerSecond,
    },
    disks: [{ volume, sizeBytes: diskBytes }],
    host,
  }
}

export function vmNamesOf({ vms }: ChaosWorkload): string[] {
  return Array.from({ length: vms }, (_, i) => `ledger-${i + 1}`)
}
