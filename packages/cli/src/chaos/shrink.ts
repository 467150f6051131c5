// From a schedule that fails to a smaller one that fails in the same way: fewer faults (delta debugging), then shorter ones,
// then without migrations. It decides only what to try next; whether that still fails is asked of whoever can run it.

import type { Fault } from './fault.ts'
import type { ChaosPlan } from './plan/plan.ts'

export interface Candidate {
  readonly plan: ChaosPlan
  readonly schedule: readonly Fault[]
}

export interface Shrunk extends Candidate {
  /** How many were tried. */
  readonly runs: number
  /** The bound on that was met: it may not be the smallest. */
  readonly isCutShort: boolean
}

export const SHRINK_RUNS_MAX = 60
const LASTS_MIN_MS = 100
/** Of one fault's duration. */
const HALVINGS_MAX = 4

/** `fails`: whether a candidate fails in the way that the whole did; the whole is known to. */
export async function shrink(
  whole: Candidate,
  fails: (candidate: Candidate) => Promise<boolean>,
  runsMax: number = SHRINK_RUNS_MAX,
): Promise<Shrunk> {
  let best = whole
  let runs = 0
  const holds = async (candidate: Candidate): Promise<boolean> => {
    if (runs >= runsMax) return false
    runs += 1
    if (!(await fails(candidate))) return false
    best = candidate
    return true
  }
  await fewer(whole, holds)
  if (best.plan.migrateEveryMs !== null) await holds({ ...best, plan: { ...best.plan, migrateEveryMs: null } })
  for (const { id } of best.schedule) {
    for (let i = 0; i < HALVINGS_MAX; i += 1) {
      const shorter = halved(best, id)
      if (shorter === null || !(await holds(shorter))) break
    }
  }
  return { ...best, runs, isCutShort: runs >= runsMax }
}

/** Zeller's ddmin: chunks of it alone, then all but a chunk, then smaller chunks. */
async function fewer(whole: Candidate, holds: (candidate: Candidate) => Promise<boolean>): Promise<void> {
  let faults = whole.schedule
  let pieces = 2
  const only = (schedule: readonly Fault[]): Candidate => ({ ...whole, schedule })
  while (faults.length >= 2) {
    const size = Math.ceil(faults.length / pieces)
    const chunks = Array.from({ length: Math.ceil(faults.length / size) }, (_, i) =>
      faults.slice(i * size, (i + 1) * size),
    )
    const rest = (chunk: readonly Fault[]): Fault[] => faults.filter(fault => !chunk.includes(fault))
    const found =
      (await first(chunks, chunk => holds(only(chunk)))) ??
      // Of two chunks the rest of one is the other.
      (chunks.length === 2 ? null : await first(chunks.map(rest), left => holds(only(left))))
    if (found !== null) {
      pieces = chunks.includes(found as Fault[]) ? 2 : Math.max(2, pieces - 1)
      faults = found
    } else if (pieces >= faults.length) return
    else pieces = Math.min(faults.length, 2 * pieces)
  }
}

async function first<T>(items: readonly T[], holds: (item: T) => Promise<boolean>): Promise<T | null> {
  for (const item of items) if (await holds(item)) return item
  return null
}

function halved(candidate: Candidate, id: number): Candidate | null {
  const fault = candidate.schedule.find(each => each.id === id)
  if (fault === undefined || fault.lastsMs < 2 * LASTS_MIN_MS) return null
  const shorter = { ...fault, lastsMs: Math.round(fault.lastsMs / 2) }
  return { ...candidate, schedule: candidate.schedule.map(each => (each.id === id ? shorter : each)) }
}
