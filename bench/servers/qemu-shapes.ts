// What both sides of a measured migration of a QEMU machine agree on.

import type { MachineSpec } from '@stellwerk/agent/hypervisor/hypervisor.ts'

export const QEMU_MEMORY_BYTES = 512 * 1024 * 1024
export const QEMU_VM = 'bench'
export const DISK_BYTES = 64 * 1024 * 1024

export interface SideConfig {
  readonly name: string
  readonly directory: string
  readonly readyFile: string
  /** Where it listens, and its QEMU waits. */
  readonly host: string
  /** Where it pays; otherwise nothing is compressed. */
  readonly compresses: boolean
}

/** A migration's ends as each side sees them; times are the machine's own monotonic milliseconds. */
export interface Sent {
  readonly startedAt: number
  /** The guest stood still from then on. */
  readonly pausedAt: number
  /** The resident memory grew by so much. */
  readonly grownBytes: number
}

export interface Received {
  readonly runsAt: number
  readonly streamBytes: number
  readonly grownBytes: number
}

export function qemuSpec(image: string, dirtyMiBPerSecond: number): MachineSpec {
  return {
    vm: QEMU_VM,
    hypervisor: 'qemu',
    guest: image,
    memoryBytes: QEMU_MEMORY_BYTES,
    parameters: { writesPerSecond: 20, dirtyMiBPerSecond, workingSetMiB: 16 },
  }
}
