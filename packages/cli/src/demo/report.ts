// The demo's result: for programs as JSON, for people as tables and one last line that says whether it held.

import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { MachineLoad } from '@stellwerk/runtime/node/machine-load.ts'
import { table } from '../render/table.ts'
import { bytes } from '../render/units.ts'
import type { LedgerFigures } from './audit.ts'
import type { FailoverFigures, MigrationFigures } from './figures.ts'

/** The demo makes so many. */
export const MIGRATIONS = 3

/** Fields are added freely and never renamed: scripts rely on them. */
export interface DemoReport {
  readonly migrations: readonly MigrationFigures[]
  readonly failovers: readonly FailoverFigures[]
  readonly ledgers: readonly LedgerFigures[]
  readonly violations: readonly Violation[]
  /** Damage that `volume check` found on what was left. */
  readonly findings: readonly string[]
  /** Processes that outlived the cluster. */
  readonly survivors: readonly string[]
  /** By how many records each rule was judged. */
  readonly judged: { readonly [rule: string]: number }
  readonly leaseMs: number
  readonly machine: MachineLoad
}

/** What keeps the demo from having held, in sentences. */
export function failuresOf(report: DemoReport): string[] {
  const failures = report.violations.map(({ rule, message }) => `${rule}: ${message}`)
  const { migrations, failovers } = report
  if (migrations.length !== MIGRATIONS) failures.push(`${migrations.length} migrations were made, not ${MIGRATIONS}`)
  if (!failovers.some(({ attested }) => attested)) failures.push('no failover after a death that was attested')
  if (failovers.every(({ attested }) => attested)) failures.push('no failover after a death that nobody attested')
  for (const { vm, lost, duplicated, damages } of report.ledgers) {
    if (lost > 0) failures.push(`${vm}: ${lost} acknowledged entries are not on its disk`)
    if (duplicated > 0) failures.push(`${vm}: ${duplicated} entries came twice`)
    for (const damage of damages) failures.push(`${vm} says: ${damage}`)
  }
  for (const finding of report.findings) failures.push(`volume: ${finding}`)
  for (const survivor of report.survivors) failures.push(`${survivor} outlived the cluster`)
  for (const [rule, records] of Object.entries(report.judged)) {
    if (records === 0) failures.push(`${rule} was judged by nothing`)
  }
  return failures
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2
}

export function ms(value: number): string {
  return value < 9_950 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(1)} s`
}

export function migrationLine(figures: MigrationFigures): string {
  const { vm, from, to, totalMs, downtimeMs, rounds, pagesSent, bytesSent, pause } = figures
  const sent = `${rounds} rounds, ${pagesSent} pages, ${bytes(bytesSent)}`
  const where =
    pause === null
      ? ''
      : ` (before ${ms(pause.beforeMs)}, release ${ms(pause.releaseMs)}, load ${ms(pause.loadMs)}, commit ${ms(pause.commitMs)}, resume ${ms(pause.resumeMs)}, next entry ${ms(pause.afterMs)})`
  return `${vm} moved from ${from} to ${to} in ${ms(totalMs)}: ${sent}; pause ${ms(downtimeMs)}${where}`
}

export function failoverLine({ vm, to, totalMs, attested, ...parts }: FailoverFigures): string {
  const { detectMs, fenceMs, waitMs, placeMs, startMs } = parts
  const spent = `detect ${ms(detectMs)}, fence ${ms(fenceMs)}, wait ${ms(waitMs)}, place ${ms(placeMs)}, start ${ms(startMs)}`
  return `${vm} runs on ${to} after ${ms(totalMs)}: ${spent}${attested ? ' (its death was attested)' : ''}`
}

export function reportLines(report: DemoReport): string[] {
  const { migrations, failovers, ledgers, machine } = report
  const records = Object.entries(report.judged).map(([rule, count]) => `${rule} ${count}`)
  const failures = failuresOf(report)
  return [
    '',
    ...table(
      ['migration', 'from', 'to', 'total', 'pause', 'rounds', 'pages', 'sent'],
      migrations.map(m => [
        m.vm,
        m.from,
        m.to,
        ms(m.totalMs),
        ms(m.downtimeMs),
        `${m.rounds}`,
        `${m.pagesSent}`,
        bytes(m.bytesSent),
      ]),
    ),
    '',
    ...table(
      ['failover', 'lost host', 'to', 'attested', 'detect', 'fence', 'wait', 'place', 'start', 'total'],
      failovers.map(f => [
        f.vm,
        f.host,
        f.to,
        f.attested ? 'yes' : 'no',
        ...[f.detectMs, f.fenceMs, f.waitMs, f.placeMs, f.startMs, f.totalMs].map(ms),
      ]),
    ),
    '',
    ...table(
      ['ledger', 'entries on disk', 'lost', 'doubled', 'heard', 'boots'],
      ledgers.map(l => [l.vm, `${l.entries}`, `${l.lost}`, `${l.duplicated}`, `${l.heard}`, `${l.boots}`]),
    ),
    '',
    `rules judged, and by how many records: ${records.join(', ')}`,
    `median pause of a migration ${ms(median(migrations.map(m => m.downtimeMs)))}, as heard outside all hosts; the lease is ${ms(report.leaseMs)}; this machine has ${machine.processors} processors, load ${machine.loadAverage.toFixed(1)}`,
    '',
    ...(failures.length === 0 ? ['It held: nothing acknowledged was lost or doubled, no rule was broken.'] : failures),
  ]
}
