// A chart for the terminal: a column for each that takes part, time downwards, what is said beside it.

import { formatDate, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { table } from '../render/table.ts'
import { type Chart, type Phase, phasesByStep, type Step } from './chart.ts'

const GAP = 3
const NARROWEST_TEXT = 30
const TIMES_WIDTH = 21

/** `columns`: lines are cut there; undefined: they are as long as they are. */
export function chartText(chart: Chart, columns?: number): string[] {
  const { participants, startMs } = chart
  const widths = participants.map(name => name.length + GAP)
  const centres = widths.map(
    (width, i) => widths.slice(0, i).reduce((sum, w) => sum + w, 0) + Math.floor((width - GAP) / 2),
  )
  const total = widths.reduce((sum, width) => sum + width, 0)
  const most = columns === undefined ? null : Math.max(NARROWEST_TEXT, columns - TIMES_WIDTH - total)
  const lines = [chart.title, `${formatDate(startMs)} ${formatTime(startMs)} UTC: ${chart.outcome}`, '']
  lines.push(`${' '.repeat(TIMES_WIDTH)}${participants.map((name, i) => name.padEnd(widths[i]!)).join('')}`.trimEnd())
  let lastMs = startMs
  const phases = phasesByStep(chart)
  const begin = (at: number) => lines.push(...(phases.get(at) ?? []).map(phase => banner(phase, total)))
  for (const [i, step] of chart.steps.entries()) {
    begin(i)
    const drawn = drawOf(step, participants, centres, total)
    const text = said(step)
    const cut = most !== null && text.length > most ? `${text.slice(0, most - 1)}…` : text
    lines.push(`${times(step.atMs, startMs, lastMs)}${drawn}${cut}`.trimEnd())
    lastMs = step.atMs
  }
  begin(chart.steps.length)
  if (chart.isCut) lines.push('… and more than a chart has room for: see stellwerk trace show')
  if (chart.phases.length > 0) lines.push('', ...phaseTable(chart.phases))
  return lines
}

function times(atMs: number, startMs: number, lastMs: number): string {
  const since = `${((atMs - startMs) / 1_000).toFixed(3)} s`
  return `${since.padStart(10)}${`+${span(Math.max(0, atMs - lastMs))}`.padStart(9)}  `
}

function drawOf(step: Step, participants: readonly string[], centres: readonly number[], total: number): string {
  const cells = Array.from<string>({ length: total }).fill(' ')
  for (const centre of centres) cells[centre] = '│'
  const columnOf = (name: string) => centres[participants.indexOf(name)]!
  if (step.kind === 'event') cells[columnOf(step.at)] = '●'
  else if (step.from === step.to) cells[columnOf(step.from)] = '↺'
  else {
    const from = columnOf(step.from)
    const to = columnOf(step.to)
    const [left, right] = from < to ? [from, to] : [to, from]
    for (let i = left + 1; i < right; i++) {
      if (cells[i] === '│') cells[i] = '┼'
      else cells[i] = step.isReply ? '╌' : '─'
    }
    cells[from] = from < to ? '├' : '┤'
    const head = step.receivedMs === null ? 'x' : from < to ? '>' : '<'
    cells[from < to ? to - 1 : to + 1] = head
  }
  return cells.join('')
}

function said(step: Step): string {
  if (step.kind === 'event') return step.what
  const { what, isReply, error, receivedMs, atMs, times: often, untilMs } = step
  const name = error === null ? (isReply ? `${what} ok` : what) : `${what} failed: ${error}`
  const took = receivedMs === null ? '(not received)' : `(${span(receivedMs - atMs)})`
  return often === 1 ? `${name} ${took}` : `${name} ${took} ×${often} in ${span(untilMs - atMs)}`
}

function banner({ name, fromMs, toMs, budgetMs }: Phase, total: number): string {
  const took = toMs === null ? 'not over' : span(toMs - fromMs)
  const budget = budgetMs === null ? '' : ` of ${span(budgetMs)}`
  const text = `── ${name}: ${took}${budget} `
  return `${' '.repeat(TIMES_WIDTH)}${text.padEnd(Math.max(total, text.length + 2), '─')}`
}

function phaseTable(phases: readonly Phase[]): string[] {
  const rows = phases.map(({ name, fromMs, toMs, budgetMs }) => {
    const tookMs = toMs === null ? null : toMs - fromMs
    const share =
      tookMs === null || budgetMs === null ? '-' : `${((100 * tookMs) / Math.max(1, budgetMs)).toFixed(1)} %`
    return [name, tookMs === null ? 'not over' : span(tookMs), budgetMs === null ? '-' : span(budgetMs), share]
  })
  return table(['PHASE', 'TOOK', 'BUDGET', 'OF IT'], rows)
}

/** `12 ms`, `3.12 s`. */
export function span(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 100_000) return `${Number((ms / 1_000).toFixed(2))} s`
  return `${Math.round(ms / 1_000)} s`
}
