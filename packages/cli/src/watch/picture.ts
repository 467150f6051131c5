// What is known as a picture of so many columns and rows: first what can be lost, then what moves and what is not well, then the
// tables, last what was decided. Pure: what is known, the size and the time in, lines out.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { clip, type Line, line, span, type Tone, textOf } from '../render/styled.ts'
import { type Extras, hostTable, vmTable, volumeTable } from '../render/tables.ts'
import { age } from '../render/units.ts'
import { fit, type Section } from './fit.ts'
import { FRESH_MS, type Known } from './known.ts'
import { agentLines, countsLine, eventLines, legLines, migrationLines, pathLines, warningLines } from './sections.ts'

export interface Size {
  readonly columns: number
  readonly rows: number
}

export const LEAST_SIZE: Size = { columns: 40, rows: 10 }
export const UNBOUNDED: Size = { columns: Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY }

/** How somebody looks at it. */
export interface Look {
  /** Only rows that have this in them; empty: all. */
  readonly filter: string
  /** VMs left out at the top. */
  readonly skipped: number
  /** The last line. */
  readonly footer: string
}

export const PLAIN_LOOK: Look = { filter: '', skipped: 0, footer: '' }

/** With more rows than that the head stands apart. */
const ROOMY_ROWS = 20
/** An answer that is older is called by its age. */
const OLD_MS = 3_000

export function picture(known: Known, size: Size, now: number, look: Look = PLAIN_LOOK, extras: Extras = {}): Line[] {
  const { columns, rows } = size
  const headline = lossLine(known, now)
  if (columns < LEAST_SIZE.columns || rows < LEAST_SIZE.rows) {
    const needed = `${LEAST_SIZE.columns} × ${LEAST_SIZE.rows}`
    const tooSmall = line(span(`${columns} × ${rows} is too small, ${needed} will do`, 'warn'))
    return [headline, tooSmall].slice(0, Math.max(0, rows)).map(each => clip(each, columns))
  }
  const head = [headline, standingLine(known, now), ...(rows > ROOMY_ROWS ? [line()] : [])]
  const foot = look.footer === '' ? [] : [line(span(look.footer, 'dim'))]
  const sections = sectionsOf(known, now, columns, extras).map(section => selected(section, look))
  const body = fit(sections, rows - head.length - foot.length)
  // The footer stays at the bottom.
  const gap = Number.isFinite(rows) && foot.length > 0 ? rows - head.length - foot.length - body.length : 0
  const blank = Array.from({ length: gap }, () => line())
  return [...head, ...body, ...blank, ...foot].map(each => clip(each, columns))
}

/** `can lose: 1 host yes · 1 storage NO (csv1: one leg)`, or that nobody can tell. */
function lossLine({ status, statusAt, away }: Known, now: number): Line {
  if (status === null) return line(span('can lose: not known yet', 'dim'))
  const { summary, host, storage } = status.canLose
  const tone: Tone = host.ok && storage.ok ? 'good' : 'bad'
  const ageMs = now - statusAt
  if (away === null && ageMs < OLD_MS) return line(span(summary, tone))
  return line(span(`can lose: not known now; ${age(ageMs)} ago: ${summary.replace(/^can lose: /, '')}`, 'warn'))
}

function standingLine({ status, statusAt, away, agents }: Known, now: number): Line {
  if (away !== null) {
    const below =
      agents === null
        ? status === null
          ? ''
          : '; below: what was known then'
        : `; hosts and VMs below: as the agents say${status === null ? '' : ', the rest as known then'}`
    return line(span(`the coordinator is away for ${age(now - away.since)} (${away.why})${below}`, 'bad'))
  }
  if (status === null) return line(span('asking the coordinator', 'dim'))
  const ageMs = now - statusAt
  return ageMs < OLD_MS
    ? line(span(countsLine(status), 'dim'))
    : line(span(`no answer for ${age(ageMs)}: as of then: ${countsLine(status)}`, 'warn'))
}

/** In the order of the picture. Those with the lowest rank get room first. */
function sectionsOf(known: Known, now: number, columns: number, extras: Extras): Section[] {
  const { status, agents } = known
  const said = agents === null ? null : agentLines(agents.view, columns)
  const sections: Section[] = []
  const add = (name: string, rank: number, least: number, lines: readonly Line[], hasHead = true) => {
    if (lines.length > (hasHead ? 1 : 0)) sections.push({ name, rank, least, lines, hasHead, keeps: 'first' })
  }
  if (status !== null) {
    add('warnings', 1, 1, warningLines(status, extras.complaints), false)
    add('moving', 0, 3, migrationLines(status, columns))
    add('legs', 2, 3, legLines(status, columns))
    const paths = pathLines(status, columns)
    add('paths', 3, 3, paths, textOf(paths[0] ?? []).startsWith('PATH '))
  }
  if (said !== null) add('hosts', 4, 3, said.hosts)
  else if (status !== null) add('hosts', 4, 3, fresh(hostTable(status, columns), status.hosts, 'host', known, now))
  if (said !== null) add('vms', 5, 3, said.vms)
  else if (status !== null)
    add('vms', 5, 3, fresh(vmTable(status, { ...extras, moves: 'apart' }, columns), status.vms, 'vm', known, now))
  if (status !== null) {
    add('volumes', 6, 2, fresh(volumeTable(status, columns), status.volumes, 'volume', known, now))
  }
  const events = eventLines(known)
  if (events.length > 0) {
    const lines = [line(span('LAST DECISIONS', 'dim')), ...events]
    sections.push({ name: 'events', rank: 7, least: 3, lines, hasHead: true, keeps: 'last' })
  }
  return sections
}

/** Rows of what has changed in the last moments stand out by their name. A table's rows are in the order of its things. */
function fresh(
  table: readonly Line[],
  things: Status['hosts'] | Status['vms'] | Status['volumes'],
  kind: string,
  { changed }: Known,
  now: number,
): Line[] {
  const names = Object.keys(things)
  return table.map((row, at) => {
    const changedAt = at === 0 ? undefined : changed.get(`${kind}/${names[at - 1]}`)
    if (changedAt === undefined || now - changedAt >= FRESH_MS) return row
    return row.map((each, n) => (n === 0 ? { ...each, tone: 'bold' as const } : each))
  })
}

function selected(section: Section, { filter, skipped }: Look): Section {
  const { lines, hasHead, name } = section
  const head = hasHead ? lines.slice(0, 1) : []
  const rows = lines.slice(head.length).filter(each => textOf(each).includes(filter))
  const from = name === 'vms' ? Math.min(skipped, Math.max(0, rows.length - 1)) : 0
  const kept = rows.slice(from)
  return { ...section, lines: kept.length === 0 ? [] : [...head, ...kept] }
}
