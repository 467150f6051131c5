// What the two sides of a measured migration agree on.

import type { MachineSpec } from '@stellwerk/agent/hypervisor/hypervisor.ts'
import type { TraceLevel } from '@stellwerk/runtime/environment.ts'

export const MEMORY_BYTES = 256 * 1024 * 1024
export const MIGRATED_VM = 'bench'

export interface MigrationSourceConfig {
  readonly directory: string
  readonly readyFile: string
  readonly dirtyMiBPerSecond: number
  /** How long the guest runs before its first migration. */
  readonly warmUpMs: number
  readonly trace?: TraceLevel
}

/** What the source sends along with the last page; times are the machine's own monotonic milliseconds. */
export interface SourceTold {
  readonly startedAt: number
  readonly pausedAt: number
  readonly rounds: number
}

/** What the source is told on its standard input when the target is gone again. */
export const RESUME = 'resume\n'

export function migrationId(n: number): string {
  return `m-${n}`
}

/** Without a disk: only memory moves. */
export function ledgerSpec(dirtyMiBPerSecond: number): MachineSpec {
  return {
    vm: MIGRATED_VM,
    hypervisor: 'wasm',
    guest: 'ledger',
    memoryBytes: MEMORY_BYTES,
    parameters: { dirtyMiBPerSecond, writesPerSecond: 0, readBacksPerSecond: 0 },
  }
}

/** Of the machine's own clock, which both sides share. */
export function machineNow(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
