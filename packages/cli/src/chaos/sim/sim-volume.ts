// What a plan's guests are in the simulator: model guests, each with a ledger that has room for the longest plan, on one
// volume with a leg on each storage.

import { MAX_PAGES, MIN_PAGES } from '@stellwerk/agent/hypervisor/model/registers.ts'
import type { Command } from '@stellwerk/coordinator/core/commands.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import type { ChaosWorkload } from '../target.ts'
import { diskBytesOf } from '../workload.ts'

export const VOLUME = 'csv1'
/** How often a guest computes: often enough that one running twice is seen at once. */
const STEP_MAX_MS = 40
const PAGE_BYTES = 4 * KIB
/** Pages that really exist and are moved: what a guest has more is only counted against its host's memory. */
const PAGES_MAX = Math.min(MAX_PAGES, 128)
/** It begins a little in front of an extent, so that requests straddle. */
const SCRATCH_BYTES = 4 * MIB + 32 * KIB
/** Metadata, and room to spare. */
const REST_BYTES = 64 * MIB

function diskBytes(workload: ChaosWorkload): number {
  return diskBytesOf(workload, SCRATCH_BYTES)
}

export function volumeBytes(workload: ChaosWorkload): number {
  return workload.vms * diskBytes(workload) + REST_BYTES
}

export function vmNames({ vms }: ChaosWorkload): string[] {
  return Array.from({ length: vms }, (_, i) => `vm-${i + 1}`)
}

export function createVm(name: string, workload: ChaosWorkload): Command {
  const { memoryBytes, dirtyBytesPerSecond, writesPerSecond } = workload
  const pages = Math.max(MIN_PAGES, Math.min(PAGES_MAX, Math.floor(memoryBytes / PAGE_BYTES)))
  // It appends an entry a step at most.
  const stepMs = Math.max(1, Math.min(STEP_MAX_MS, 1_000 / writesPerSecond))
  const dirtied = Math.ceil((dirtyBytesPerSecond / PAGE_BYTES) * (stepMs / 1_000))
  return {
    kind: 'vm-create',
    name,
    spec: {
      hypervisor: 'model',
      guest: 'ledger',
      memoryBytes,
      parameters: {
        ...{ writesPerSecond, pages, stepMs, scratchBytes: SCRATCH_BYTES, scratchPerSecond: 2 },
        dirtyPagesPerStep: Math.min(pages, dirtied),
      },
    },
    disks: [{ volume: VOLUME, sizeBytes: diskBytes(workload) }],
    ...{ start: true, priority: 0, host: null },
  }
}
