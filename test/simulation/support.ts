// What the simulation's tests share: a cluster with a volume, and a result in words that tell how to see it again.

import type { Command } from '@stellwerk/coordinator/core/commands.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import type { SeedResult } from 'stellwerk/simulation/run-seed.ts'
import { expect } from 'vitest'
import { VOLUME_BYTES, type World } from '../../packages/cli/src/simulation/world.ts'

export const CLEAN = 'clean'

/** `npm run test:long`: what takes too long for each time, too. */
export const LONG = process.env['STELLWERK_LONG'] !== undefined

/** A seed takes a second or two; how long that is on a busy machine proves nothing. */
export const TIMEOUT = { timeout: 600_000 }

export function complaint({ seed, failure }: SeedResult, canary?: string): string {
  if (failure === null) return CLEAN
  const planted = canary === undefined ? '' : ` --canary ${canary}`
  return `${failure.rule}: ${failure.message}\nreplay it: npm run sim -- --seed ${seed}${planted}`
}

const SETTLE_MS = 30_000

/** Starts the cluster, waits until its hosts are admitted, and makes the volume `csv1` on these storages. */
export async function startWithVolume(world: World, storages: readonly string[] = ['san-a']): Promise<void> {
  world.start()
  const admitted = () =>
    world.options.hosts.every(name => world.coordinator?.state.hosts.get(name)?.phase === 'admitted')
  expect(await world.sim.runUntil(admitted, SETTLE_MS)).toBe(true)
  world.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: VOLUME_BYTES, storages })
}

/** A ledger guest with a small disk on `csv1`, started at once. */
export function guestAt(host: string | null, name = 'vm-1', volume = 'csv1'): Command {
  return {
    ...{ kind: 'vm-create', name, start: true, priority: 0, host },
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 256 * MIB, parameters: {} },
    disks: [{ volume, sizeBytes: 8 * MIB }],
  }
}
