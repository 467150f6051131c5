// Guards against vacuous runs: a seed in which nothing happened proves nothing, so it fails by the name `vacuous`.

import type { MonitorSet } from '@stellwerk/protocol/monitors/all-monitors.ts'

/** Migrations that were admitted; some of them are aborted by faults. */
export const MIGRATIONS_FLOOR = 6
/**
 * Entries acknowledged per VM and second of the time of faults: a guest writes at least ten a second while it runs, and
 * faults may keep it down for most of that time, but not for all of it.
 */
export const ACKNOWLEDGED_FLOOR = 2

export interface Substance {
  readonly vms: readonly string[]
  readonly safetyMs: number
  /** VM → entries acknowledged. */
  readonly acknowledged: ReadonlyMap<string, number>
  readonly migrationsAdmitted: number
  readonly monitors: Pick<MonitorSet, 'judged' | 'givenUp'>
}

/** What the run lacks, or null. */
export function lacking(run: Substance): string | null {
  const { vms, safetyMs, acknowledged, migrationsAdmitted, monitors } = run
  if (migrationsAdmitted < MIGRATIONS_FLOOR)
    return `only ${migrationsAdmitted} migrations were admitted, ${MIGRATIONS_FLOOR} are the least`
  const silent = vms.filter(vm => (acknowledged.get(vm) ?? 0) === 0)
  if (silent.length > 0) return `${silent.join(', ')} never acknowledged an entry`
  let entries = 0
  for (const count of acknowledged.values()) entries += count
  const floor = Math.floor((ACKNOWLEDGED_FLOOR * vms.length * safetyMs) / 1000)
  if (entries < floor) return `only ${entries} entries were acknowledged, ${floor} are the least`
  for (const [rule, records] of monitors.judged) if (records === 0) return `${rule} was judged by no record at all`
  if (monitors.givenUp > 0) return `${monitors.givenUp} sectors could not be judged by IO1 for want of room`
  return null
}
