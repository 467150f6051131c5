// What many seeds come to: sums, failures, and the table of faults by migration phase. Results may come in any order.

import { createHash } from 'node:crypto'
import { emptyCells } from './fault-driver.ts'
import { COUNTED } from './faults.ts'
import { MIGRATION_PHASES } from './plan.ts'
import type { DiskCounts, LegCounts, SeedResult } from './run-seed.ts'

/** A run of so many seeds must have met every fault in every phase. */
export const COVERING_SEEDS = 1_000

export interface Failed {
  readonly seed: string
  readonly rule: string
  readonly message: string
}

/** What `sim --json` prints: fields are added, never renamed. */
export interface SimReport {
  readonly seeds: number
  readonly failed: readonly Failed[]
  readonly simulatedMs: number
  readonly realMs: number
  readonly events: number
  readonly faults: { readonly [kind: string]: number }
  readonly migrations: number
  readonly failovers: number
  readonly acknowledgedWrites: number
  /** Of one seed its own; of several a hash over theirs. */
  readonly traceHash: string
  readonly migrationsAdmitted: number
  /** Fault → phase of a migration that was under way → how often. */
  readonly coverage: { readonly [kind: string]: { readonly [phase: string]: number } }
  readonly emptyCells: readonly string[]
  readonly disks: DiskCounts
  readonly legs: LegCounts
  readonly commit: string | null
}

export class Summary {
  readonly #results = new Map<string, SeedResult>()

  add(result: SeedResult): void {
    // Of each only numbers are kept: a violation's records would hold a trace each.
    this.#results.set(result.seed, { ...result, violations: [] })
  }

  get count(): number {
    return this.#results.size
  }

  get failedCount(): number {
    let count = 0
    for (const { failure } of this.#results.values()) if (failure !== null) count++
    return count
  }

  get simulatedMs(): number {
    return this.#sum(result => result.simulatedMs)
  }

  /** `seeds`: all that were asked for, in their order. */
  report(seeds: readonly string[], realMs: number, commit: string | null): SimReport {
    const results = seeds.flatMap(seed => this.#results.get(seed) ?? [])
    const coverage = this.#coverage()
    return {
      seeds: results.length,
      failed: results.flatMap(({ seed, failure }) => (failure === null ? [] : [{ seed, ...failure }])),
      simulatedMs: Math.round(this.simulatedMs),
      realMs: Math.round(realMs),
      events: this.#sum(result => result.events),
      faults: this.#faults(),
      migrations: this.#sum(result => result.migrations),
      failovers: this.#sum(result => result.failovers),
      acknowledgedWrites: this.#sum(result => result.acknowledgedWrites),
      traceHash: hashOf(results),
      migrationsAdmitted: this.#sum(result => result.migrationsAdmitted),
      coverage,
      emptyCells: emptyCells(coverage, COUNTED),
      disks: {
        snapshots: this.#sum(result => result.disks.snapshots),
        clones: this.#sum(result => result.disks.clones),
        copies: this.#sum(result => result.disks.copies),
        full: this.#sum(result => result.disks.full),
      },
      legs: {
        taken: this.#sum(result => result.legs.taken),
        given: this.#sum(result => result.legs.given),
        regretted: this.#sum(result => result.legs.regretted),
      },
      commit,
    }
  }

  #sum(of: (result: SeedResult) => number): number {
    let sum = 0
    for (const result of this.#results.values()) sum += of(result)
    return sum
  }

  #faults(): { [kind: string]: number } {
    return Object.fromEntries(COUNTED.map(name => [name, this.#sum(result => result.faults[name] ?? 0)]))
  }

  #coverage(): SimReport['coverage'] {
    const row = (kind: string) =>
      Object.fromEntries(
        MIGRATION_PHASES.map(phase => [phase, this.#sum(result => result.coverage[kind]?.[phase] ?? 0)]),
      )
    return Object.fromEntries(COUNTED.map(name => [name, row(name)]))
  }
}

function hashOf(results: readonly SeedResult[]): string {
  const [only] = results
  if (only !== undefined && results.length === 1) return only.traceHash
  const hash = createHash('sha256')
  for (const { seed, traceHash } of results) hash.update(`${seed} ${traceHash}\n`)
  return hash.digest('hex').slice(0, 16)
}

/** A run fails by a failed seed, or, being large, by something that was never tried. */
export function isFailure(report: SimReport): boolean {
  return report.failed.length > 0 || (report.seeds >= COVERING_SEEDS && report.emptyCells.length > 0)
}

export function coverageTable({ coverage, faults }: SimReport): string[] {
  const names = Object.keys(coverage)
  const width = Math.max(...names.map(name => name.length))
  const cell = (value: string | number) => String(value).padStart(11)
  const head = `${'fault'.padEnd(width)}${cell('all')}${MIGRATION_PHASES.map(cell).join('')}`
  const rows = names.map(name => {
    const cells = MIGRATION_PHASES.map(phase => cell(coverage[name]?.[phase] ?? 0)).join('')
    return `${name.padEnd(width)}${cell(faults[name] ?? 0)}${cells}`
  })
  return [head, ...rows]
}

export function summaryLines(report: SimReport): string[] {
  const { seeds, failed, simulatedMs, realMs, events, migrations, migrationsAdmitted, failovers, disks, legs } = report
  const pace = realMs > 0 ? Math.round(simulatedMs / realMs) : 0
  return [
    `${seeds} seeds, ${failed.length} failed, trace hash ${report.traceHash}`,
    `${migrations} migrations committed of ${migrationsAdmitted} admitted, ${failovers} failovers, ${report.acknowledgedWrites} acknowledged writes`,
    `${disks.snapshots} snapshots, ${disks.clones} clones, ${disks.copies} extents copied, ${disks.full} guests held still by a full volume`,
    `${legs.taken} legs taken away, ${legs.given} second legs given, ${legs.regretted} taken back before they were in sync`,
    `${seconds(simulatedMs)} simulated in ${seconds(realMs)} (${pace} × real time), ${events} events (${realMs > 0 ? Math.round(events / realMs) : 0} thousand a second)`,
  ]
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
