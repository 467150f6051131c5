// A schedule as a plan of fixed faults: what a shrunk run is written down as. Parsed again it gives the same faults.

import { MIB } from '@stellwerk/runtime/units.ts'
import { stringify } from 'yaml'
import type { Fault } from '../fault.ts'
import type { ChaosPlan, Limits, Objective } from './plan.ts'
import { formatDuration, formatSpan } from './quantity.ts'

/** `comment`: lines for people, in front. */
export function writePlan(plan: ChaosPlan, faults: readonly Fault[], seed: string, comment: readonly string[]): string {
  const { workload, cluster } = plan
  const value = {
    name: plan.name,
    summary: plan.summary,
    seed,
    cluster: { hosts: [...cluster.hosts], storages: [...cluster.storages] },
    workload: {
      vms: workload.vms,
      memory: sizeWord(workload.memoryBytes),
      dirtyRate: sizeWord(workload.dirtyBytesPerSecond),
      writesPerSecond: workload.writesPerSecond,
      ...(plan.migrateEveryMs === null ? {} : { migrateEvery: formatDuration(plan.migrateEveryMs) }),
    },
    duration: formatDuration(plan.durationMs),
    converge: formatDuration(plan.convergeMs),
    faults: faults.map(faultEntry),
    limits: limitsEntry(plan.limits),
    hold: {
      rules: plan.rules === null ? 'all' : [...plan.rules],
      ...(plan.objectives.length === 0 ? {} : { objectives: Object.fromEntries(plan.objectives.map(objectiveEntry)) }),
    },
  }
  const head = comment.map(line => `# ${line}\n`).join('')
  return `${head}${stringify(value, { lineWidth: 0 })}`
}

function faultEntry(fault: Fault): { [name: string]: string | number | boolean } {
  const { id: _, kind, atMs, lastsMs, delayMs, jitterMs, mibPerSecond, byMs, ...same } = fault
  return {
    at: formatDuration(atMs),
    kind,
    for: formatDuration(lastsMs),
    ...same,
    ...(delayMs === undefined ? {} : { delay: formatDuration(delayMs) }),
    ...(jitterMs === undefined ? {} : { jitter: formatDuration(jitterMs) }),
    ...(mibPerSecond === undefined ? {} : { rate: sizeWord(mibPerSecond * MIB) }),
    ...(byMs === undefined ? {} : { by: formatDuration(byMs) }),
  }
}

function limitsEntry({ gapMs, ...counts }: Limits): { [name: string]: string | number } {
  const bounded = Object.entries(counts).filter(([, count]) => count < Number.MAX_SAFE_INTEGER)
  return { ...Object.fromEntries(bounded), gap: formatDuration(gapMs) }
}

function objectiveEntry(objective: Objective): [string, unknown] {
  if ('atLeast' in objective) return [objective.name, objective.atLeast]
  const within = formatSpan(objective.within)
  return [objective.name, objective.disturbed ? { within, disturbed: true } : within]
}

function sizeWord(bytes: number): string {
  return bytes % MIB === 0 ? `${bytes / MIB}MiB` : `${bytes}b`
}
