// The demo's guests: how large, how busy, and how long one may take to do what it is told.

import { MIB } from '@stellwerk/runtime/units.ts'
import type { LedgerGuest } from '../images/ledger-guest.ts'

export interface Part {
  readonly memoryBytes: number
  readonly parameters: { readonly [name: string]: number }
}

export interface Cast {
  /** The guest that is moved and killed, and the lighter ones on the other hosts. */
  readonly heavy: Part
  readonly light: Part
  // What a machine that has much else to do may take. An idle one needs a tenth.
  readonly startsMs: number
  readonly stopsMs: number
  /** Within this, after all faults, every guest must make progress (rule LIV1). */
  readonly livelyMs: number
}

const EMBEDDED: Cast = {
  heavy: { memoryBytes: 64 * MIB, parameters: { dirtyMiBPerSecond: 16, writesPerSecond: 100 } },
  light: { memoryBytes: 16 * MIB, parameters: { dirtyMiBPerSecond: 1, writesPerSecond: 20 } },
  startsMs: 60_000,
  stopsMs: 30_000,
  livelyMs: 3_000,
}

/** An operating system boots before the guest works, perhaps on a processor made of software. */
const MACHINES: Cast = {
  heavy: { memoryBytes: 128 * MIB, parameters: { dirtyMiBPerSecond: 16, workingSetMiB: 16, writesPerSecond: 50 } },
  light: { memoryBytes: 96 * MIB, parameters: { dirtyMiBPerSecond: 1, workingSetMiB: 4, writesPerSecond: 10 } },
  startsMs: 300_000,
  stopsMs: 120_000,
  livelyMs: 10_000,
}

export function castOf(hypervisor: LedgerGuest['hypervisor']): Cast {
  return hypervisor === 'qemu' ? MACHINES : EMBEDDED
}
