// Real time and real threads for tests of one hypervisor; no network, no files, no processes.

import type { Compute, Environment } from '@stellwerk/runtime/environment.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { createVirtualEnvironment } from './virtual-environment.ts'

/** `files`: what `env.files.read` finds, by path. */
export function createRealEnvironment(
  compute: Compute,
  files: ReadonlyMap<string, Uint8Array> = new Map(),
): Environment {
  const clock = createClock()
  const { env } = createVirtualEnvironment(7)
  return {
    ...env,
    clock,
    timers: createTimers(clock),
    compute,
    files: { ...env.files, read: async path => files.get(path) ?? null },
  }
}
