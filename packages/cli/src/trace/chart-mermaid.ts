// A chart in the words of Mermaid, which wikis, forges and editors draw.

import { type Chart, type Phase, phasesByStep, type Step } from './chart.ts'
import { span } from './chart-text.ts'

export function mermaid(chart: Chart): string[] {
  const { participants, startMs } = chart
  const idOf = (name: string) => `P${participants.indexOf(name)}`
  const all = participants.length < 2 ? 'P0' : `P0,P${participants.length - 1}`
  const lines = ['sequenceDiagram', `  title ${plain(`${chart.title}: ${chart.outcome}`)}`]
  for (const name of participants) lines.push(`  participant ${idOf(name)} as ${plain(name)}`)
  const phases = phasesByStep(chart)
  const begin = (at: number) => {
    for (const phase of phases.get(at) ?? []) lines.push(`  Note over ${all}: ${told(phase)}`)
  }
  for (const [i, step] of chart.steps.entries()) {
    begin(i)
    lines.push(`  ${lineOf(step, idOf, startMs)}`)
  }
  begin(chart.steps.length)
  for (const phase of chart.phases) if (phase.isWhole) lines.push(`  Note over ${all}: ${told(phase)}`)
  if (chart.isCut) lines.push(`  Note over ${all}: and more than a chart has room for`)
  return lines
}

function lineOf(step: Step, idOf: (name: string) => string, startMs: number): string {
  const since = `+${span(step.atMs - startMs)}`
  if (step.kind === 'event') return `Note over ${idOf(step.at)}: ${plain(`${since} ${step.what}`)}`
  const { from, to, isReply, receivedMs, error, what, times, untilMs, atMs } = step
  const arrow = receivedMs === null ? (isReply ? '--x' : '-x') : isReply ? '-->>' : '->>'
  const often = times === 1 ? '' : ` ×${times} in ${span(untilMs - atMs)}`
  const text = `${since} ${what}${error === null ? '' : ` failed, ${error}`}${often}`
  return `${idOf(from)}${arrow}${idOf(to)}: ${plain(text)}`
}

function told({ name, fromMs, toMs, budgetMs }: Phase): string {
  const budget = budgetMs === null ? '' : ` of ${span(budgetMs)}`
  return plain(`${name} ${toMs === null ? 'not over' : span(toMs - fromMs)}${budget}`)
}

/** What ends a line or begins an entity there is written as an entity itself. */
function plain(text: string): string {
  return text.replace(/[#;\r\n]/g, char => `#${char.charCodeAt(0)};`)
}
