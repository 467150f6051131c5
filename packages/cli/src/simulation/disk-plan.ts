// What operators do to the guests' disks in a seed: snapshots, VMs that run from clones of them, deletes, larger sizes. Drawn
// from a stream of its own, so that the rest of a plan is the same with and without it.

import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

export interface PlannedSnapshot {
  readonly name: string
  /** Whose disk. */
  readonly vm: string
  readonly volume: string
  readonly atMs: number
  /** A VM that runs from a clone, after so long; null: none. */
  readonly clone: { readonly vm: string; readonly afterMs: number; readonly lastsMs: number } | null
  readonly deleteAfterMs: number
}

export interface PlannedResize {
  readonly vm: string
  readonly volume: string
  readonly atMs: number
  readonly sizeBytes: number
}

export interface DiskPlan {
  readonly snapshots: readonly PlannedSnapshot[]
  readonly resizes: readonly PlannedResize[]
}

/** Snapshots of a seed, at most, where they are not kept long; a third of those seeds has none. */
const SNAPSHOTS_MAX = 8
const RESIZES_MAX = 2
const KEPT_MS = 14_000
const KEPT_LONG_MS = 45_000
/** One extent more than a guest's disk has. */
const LARGER_BYTES = 12 * MIB

export interface DiskTuning {
  readonly snapshots?: number
  readonly resizes?: number
  readonly keepSnapshots?: boolean
}

export function drawDiskPlan(
  random: SimRandom,
  vms: readonly { readonly name: string; readonly volume: string }[],
  safetyMs: number,
  tuning: DiskTuning = {},
): DiskPlan {
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)]!
  const few = random.chance(1 / 3) ? 0 : 1 + random.int(SNAPSHOTS_MAX)
  const many = SNAPSHOTS_MAX + random.int(SNAPSHOTS_MAX)
  // Where many are made and kept long, a volume runs full.
  const kept = tuning.keepSnapshots ?? random.chance(0.3)
  const count = tuning.snapshots ?? (kept ? many : few)
  const keptMs = kept ? KEPT_LONG_MS : KEPT_MS
  const snapshots: PlannedSnapshot[] = []
  for (let i = 0; i < count; i++) {
    const { name: vm, volume } = pick(vms)
    const atMs = 4_000 + ((safetyMs - 20_000) * (i + random.float())) / count
    const afterMs = 200 + random.float() * 5_000
    const lastsMs = 3_000 + random.float() * 6_000
    const clone = random.chance(0.6) ? { vm: `clone-${i + 1}`, afterMs, lastsMs } : null
    // Often before its clone goes: then only the clone has what was shared.
    const deleteAfterMs = 1_000 + random.float() * keptMs
    snapshots.push({ name: `snap-${i + 1}`, vm, volume, atMs, clone, deleteAfterMs })
  }
  const resizes: PlannedResize[] = []
  const grown = tuning.resizes ?? random.int(RESIZES_MAX + 1)
  for (let i = 0; i < grown; i++) {
    const { name: vm, volume } = pick(vms)
    resizes.push({ vm, volume, atMs: 10_000 + random.float() * (safetyMs - 20_000), sizeBytes: LARGER_BYTES })
  }
  return { snapshots, resizes }
}
