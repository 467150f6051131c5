// `stellwerk trace replay`: whether the coordinator's core of this version decides what a recorded one has decided; and
// `stellwerk trace to-scenario`, which makes a test of that.

import { resolve } from 'node:path'
import { formatDate, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type CommandSpec, DIR, FAILED, JSON_OUT, OK, type Terminal } from '../command-line/command.ts'
import { type ReplayReport, replayTrace } from '../trace/replay.ts'
import { scenarioOf, writeScenario } from '../trace/scenario.ts'
import { spanOf, TIMES } from '../trace/show-filter.ts'
import { FROM, openTrace } from '../trace/source.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

export const toScenario: CommandSpec = {
  words: 'trace to-scenario',
  args: [],
  options: {
    dir: DIR,
    from: FROM,
    out: { type: 'string', value: 'DIR', help: 'the directory to make' },
    ...TIMES,
    about: { type: 'string', value: 'TEXT', help: 'one line that says what happened, for its README' },
  },
  summary: 'Make a scenario, which tests replay, of what a coordinator was fed in a recorded incident',
  run: async (context, input) => {
    const out = input.text('out') ?? ''
    if (out === '') {
      throw new StellwerkError('usage', '--out is missing', {
        where: 'stellwerk trace to-scenario',
        hint: 'name a directory that is not there yet: --out test/scenarios/NAME',
      })
    }
    const directory = resolve(context.terminal.cwd, out)
    const source = await openTrace(context.directory(input), input.texts('from'))
    const scenario = await scenarioOf(source, await spanOf(source, input))
    writeScenario(directory, scenario, input.text('about') ?? `An incident of cluster ${source.cluster ?? 'unknown'}`)
    const { inputs, expected, decisions, from, to } = scenario
    const what = `${inputs.length} inputs and snapshots, ${expected.length} answers, ${decisions.length} decisions`
    context.terminal.out(`${directory}: ${what}, from ${from} to ${to}`)
    return OK
  },
}

const SHOWN_CHARS = 2_000

export const replay: CommandSpec = {
  words: 'trace replay',
  args: [],
  options: { dir: DIR, from: FROM, json: JSON_OUT },
  summary: 'Feed a recorded coordinator’s inputs to this version’s, and name the first decision that differs',
  run: async (context, input) => {
    const { terminal } = context
    const source = await openTrace(context.directory(input), input.texts('from'))
    const damage: Damage = { count: 0 }
    const report = await replayTrace(source, tolerant(context, damage))
    if (input.flag('json')) terminal.out(JSON.stringify(report))
    else tell(terminal, report)
    return report.difference === null && report.counts.inputs > 0 && damage.count === 0 ? OK : FAILED
  },
}

function tell(terminal: Terminal, { counts, difference, record }: ReplayReport): void {
  const { runs, snapshots, inputs, decided, skipped } = counts
  const rest = skipped === 0 ? '' : `; ${skipped} inputs after missing records could not be replayed`
  const what = `${inputs} inputs (${decided} with an answer) of ${runs} ${runs === 1 ? 'run' : 'runs'} of the coordinator`
  if (difference === null) {
    const checked = `${snapshots} ${snapshots === 1 ? 'snapshot' : 'snapshots'}`
    terminal.out(inputs === 0 ? `nothing could be replayed${rest}` : `the same decisions: ${what}, ${checked}${rest}`)
    return
  }
  const { at, fed, path, expected, got, input } = difference
  const when = record === null ? '' : `, ${formatDate(record.hlc.wallMs)} ${formatTime(record.hlc.wallMs)}`
  const where = fed === null ? 'the state differs from the snapshot' : `input ${input} is answered otherwise`
  terminal.out(`${where} (${at}${when}), after ${what}${rest}`)
  if (fed !== null) terminal.out(`  input     ${shown(fed)}`)
  terminal.out(`  at        ${path === '' ? 'the whole answer' : path}`)
  terminal.out(`  expected  ${shown(expected)}`)
  terminal.out(`  got       ${shown(got)}`)
}

function shown(value: Json | undefined): string {
  if (value === undefined) return 'nothing'
  const text = JSON.stringify(value)
  return text.length <= SHOWN_CHARS ? text : `${text.slice(0, SHOWN_CHARS)} … (${text.length} characters)`
}
