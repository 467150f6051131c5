// The volume that some seeds have on a storage without epochs, alone or beside an embedded one, and who works on it. Drawn from a
// stream of its own, so that the rest of a plan is the same with and without it.

import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import type { OperatorAct, PlannedVm, PlannedVolume } from './plan.ts'

export interface ExternalPlan {
  readonly storages: readonly string[]
  readonly volumes: readonly PlannedVolume[]
  readonly vms: readonly PlannedVm[]
  readonly acts: readonly OperatorAct[]
}

export const NO_EXTERNAL: ExternalPlan = { storages: [], volumes: [], vms: [], acts: [] }

const STORAGE = 'nas'
const VOLUME = 'csv3'
const MIGRATIONS_MAX = 4
const OWNS_MAX = 2

export interface ExternalRoom {
  readonly hosts: readonly string[]
  readonly storages: readonly string[]
  readonly safetyMs: number
  readonly suffix: string
  readonly stepMs: number
}

export function drawExternal(
  random: SimRandom,
  { hosts, storages, safetyMs, suffix, stepMs }: ExternalRoom,
): ExternalPlan {
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)]!
  const other = pick(storages)
  const legs = pick([[STORAGE], [STORAGE, other], [other, STORAGE]])
  const vms = Array.from({ length: 1 + random.int(2) }, (_, i) => ({
    name: `plain-${i + 1}${suffix}`,
    volume: VOLUME,
    parameters: {
      writesPerSecond: 10 + random.int(5),
      dirtyPagesPerStep: 1 + random.int(4),
      pages: 32 + random.int(64),
      stepMs,
      scratchPerSecond: 2 * random.int(4),
      trimsPerSecond: pick([0, 0.02]),
    },
  }))
  const sometime = (): number => 4_000 + random.float() * (safetyMs - 8_000)
  const act = (kind: OperatorAct['act']): OperatorAct => ({
    ...{ atMs: sometime(), act: kind, vm: pick(vms).name, host: pick(hosts), volume: VOLUME },
  })
  const migrations = Array.from({ length: 1 + random.int(MIGRATIONS_MAX) }, () => act('migrate'))
  const owns = Array.from({ length: random.int(OWNS_MAX + 1) }, () => act('own'))
  return { storages: [STORAGE], volumes: [{ name: VOLUME, storages: legs }], vms, acts: [...migrations, ...owns] }
}
