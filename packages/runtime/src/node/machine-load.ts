// How large and how busy this machine is: what a measurement was taken under, to be told with its figures.

import { availableParallelism, loadavg, totalmem } from 'node:os'

export interface MachineLoad {
  readonly processors: number
  /** Of the last minute. */
  readonly loadAverage: number
}

export function machineLoad(): MachineLoad {
  return { processors: availableParallelism(), loadAverage: loadavg()[0] ?? 0 }
}

/** All that it has, in use or not. */
export function machineMemoryBytes(): number {
  return totalmem()
}
