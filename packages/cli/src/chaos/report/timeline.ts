// The picture of a run, as SVG: which host ran each VM when, what was broken meanwhile, where guests got no answer from
// their disks, and where a rule was broken. Drawn from the run's history; no script, no foreign file.

import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import { describeFault } from '../describe-fault.ts'
import type { Fault } from '../fault.ts'
import type { FaultSpan, History } from '../judge/history.ts'
import { endOf } from '../judge/objectives.ts'
import { escapeXml } from './escape.ts'

const LEFT = 90
const WIDTH = 1_000
const RIGHT = 20
const ROW = 26
const LANE = 18
const AXIS = 24
/** Told apart also by who sees few colours. */
const HOST_COLOURS = ['#4477aa', '#ee8866', '#44bb99', '#bbcc33', '#aa4499', '#eedd88', '#77aadd', '#997700']
const FAULT_COLOUR = '#b8b8c0'
const GAP_COLOUR = '#cc3311'
/** Shorter silences are not drawn: guests write at most a few entries in that time. */
const GAP_MIN_MS = 500

export interface Picture {
  readonly history: History
  readonly hosts: readonly string[]
  readonly schedule: readonly Fault[]
  readonly violations: readonly Violation[]
}

export function timelineSvg({ history, hosts, schedule, violations }: Picture): string {
  const end = Math.max(1, endOf(history))
  const x = (at: number): number => LEFT + (Math.max(0, Math.min(at, end)) / end) * WIDTH
  const lanes = lanesOf(history.faults, end)
  const top = AXIS + Math.max(1, lanes.length) * LANE + 12
  const height = top + history.vms.size * ROW + AXIS + ROW
  const parts = [
    ...axis(end, x, height - ROW),
    ...lanes.flatMap((lane, i) => lane.flatMap(fault => faultBar(fault, schedule, end, x, AXIS + i * LANE))),
    text(4, AXIS + 12, 'faults', 'label'),
    ...(history.ended === null ? [] : healed(x(history.ended.at), height - ROW - AXIS)),
    ...[...history.vms].flatMap(([vm, { runs, acknowledged }], i) => {
      const y = top + i * ROW
      return [
        text(4, y + 15, vm, 'label'),
        ...runs.flatMap(run => runBar(run.host, run.from, run.to ?? end, hosts, x, y)),
        ...silences(acknowledged, end).flatMap(({ from, to }) => gapBar(vm, from, to, x, y)),
      ]
    }),
    ...history.failovers.flatMap(({ vm, from, to, at }) => {
      const y = top + [...history.vms.keys()].indexOf(vm) * ROW
      const title = `${vm} is started on ${to}: ${from} is lost (${seconds(at)})`
      return [`<path d="M${px(x(at))} ${y} l5 -6 h-10 z" fill="#222">${titled(title)}</path>`]
    }),
    ...violations.flatMap(({ rule, message, at }) => [
      `<line x1="${px(x(at))}" x2="${px(x(at))}" y1="${AXIS}" y2="${height - ROW - AXIS}" stroke="${GAP_COLOUR}" stroke-width="2" stroke-dasharray="4 2">${titled(`${rule}: ${message}`)}</line>`,
      text(x(at) + 3, AXIS - 12, rule, 'rule'),
    ]),
    ...legend(hosts, height - 8),
  ]
  const width = LEFT + WIDTH + RIGHT
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="100%" role="img" aria-label="What ran where, and what was broken">`,
    '<style>text{font:11px sans-serif;fill:#222}.label{font-weight:bold}.rule{fill:#cc3311;font-weight:bold}</style>',
    ...parts,
    '</svg>',
  ].join('\n')
}

/** Times in which a VM acknowledged nothing. */
export function silences(acknowledged: readonly number[], end: number): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = []
  let before = 0
  for (const at of [...acknowledged.filter(each => each > 0 && each < end), end]) {
    if (at - before >= GAP_MIN_MS) found.push({ from: before, to: at })
    before = at
  }
  return found
}

/** Faults that overlap stand one below the other. */
function lanesOf(faults: readonly FaultSpan[], end: number): FaultSpan[][] {
  const lanes: FaultSpan[][] = []
  for (const fault of faults) {
    const free = lanes.find(lane => (lane.at(-1)?.to ?? end) <= fault.from)
    if (free === undefined) lanes.push([fault])
    else free.push(fault)
  }
  return lanes
}

function axis(end: number, x: (at: number) => number, bottom: number): string[] {
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find(each => end / (each * 1_000) <= 16) ?? 1_200
  const lines: string[] = []
  for (let at = 0; at <= end; at += step * 1_000) {
    const at1 = px(x(at))
    lines.push(`<line x1="${at1}" x2="${at1}" y1="${AXIS - 6}" y2="${bottom - AXIS + 4}" stroke="#ddd"/>`)
    lines.push(text(x(at) - 8, bottom - 6, `${at / 1_000} s`))
  }
  return lines
}

function faultBar(
  fault: FaultSpan,
  schedule: readonly Fault[],
  end: number,
  x: (at: number) => number,
  y: number,
): string[] {
  const to = fault.to ?? end
  const drawn = schedule.find(({ id }) => id === fault.id)
  const what = drawn === undefined ? `${fault.kind} ${fault.on}` : describeFault(drawn)
  const width = Math.max(2, x(to) - x(fault.from))
  const labels = [`${fault.kind} ${fault.on}`, fault.kind, `#${fault.id}`]
  // What does not fit is in the title.
  const label = labels.find(each => each.length * 5.6 < width)
  return [
    `<rect x="${px(x(fault.from))}" y="${y}" width="${px(width)}" height="${LANE - 4}" fill="${FAULT_COLOUR}" stroke="#777">${titled(`#${fault.id} ${what}, ${seconds(fault.from)} to ${seconds(to)}`)}</rect>`,
    ...(label === undefined ? [] : [text(x(fault.from) + 3, y + 11, label)]),
  ]
}

function healed(at: number, bottom: number): string[] {
  return [
    `<line x1="${px(at)}" x2="${px(at)}" y1="${AXIS - 6}" y2="${bottom}" stroke="#117733" stroke-dasharray="6 3"/>`,
    text(at + 3, AXIS - 8, 'all healed'),
  ]
}

function runBar(
  host: string,
  from: number,
  to: number,
  hosts: readonly string[],
  x: (at: number) => number,
  y: number,
): string[] {
  if (to <= 0) return []
  const width = Math.max(1, x(to) - x(from))
  const title = `on ${host}, ${seconds(from)} to ${seconds(to)}`
  return [
    `<rect x="${px(x(from))}" y="${y + 2}" width="${px(width)}" height="${ROW - 8}" fill="${colourOf(host, hosts)}">${titled(title)}</rect>`,
  ]
}

function gapBar(vm: string, from: number, to: number, x: (at: number) => number, y: number): string[] {
  const title = `${vm} acknowledged nothing for ${seconds(to - from)}, from ${seconds(from)} on`
  const width = Math.max(1.5, x(to) - x(from))
  return [
    `<rect x="${px(x(from))}" y="${y + ROW - 8}" width="${px(width)}" height="4" fill="${GAP_COLOUR}">${titled(title)}</rect>`,
  ]
}

function legend(hosts: readonly string[], y: number): string[] {
  const items = [
    ...hosts.map(host => [colourOf(host, hosts), host] as const),
    [FAULT_COLOUR, 'fault'] as const,
    [GAP_COLOUR, 'no entry acknowledged'] as const,
    ['#222', '▾ started elsewhere'] as const,
  ]
  let at = LEFT
  return items.flatMap(([colour, name]) => {
    const here = at
    at += 26 + name.length * 6.4
    return [`<rect x="${px(here)}" y="${y - 9}" width="10" height="10" fill="${colour}"/>`, text(here + 14, y, name)]
  })
}

function colourOf(host: string, hosts: readonly string[]): string {
  return HOST_COLOURS[Math.max(0, hosts.indexOf(host)) % HOST_COLOURS.length]!
}

function text(x: number, y: number, what: string, style = ''): string {
  const of = style === '' ? '' : ` class="${style}"`
  return `<text x="${px(x)}" y="${px(y)}"${of}>${escapeXml(what)}</text>`
}

function titled(what: string): string {
  return `<title>${escapeXml(what)}</title>`
}

function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`
}
