// A recorded incident as a scenario: a directory with what the coordinator was fed, from a state on, and what it decided. Small
// enough to be kept beside the tests, which replay it (test/scenarios/).
//
//   README.md         what it is and where it comes from
//   inputs.ndjson     the state it begins with, then each input: { kind: snapshot | input, at, value }
//   expected.ndjson   { input, value }: what the input of that number (from 1) was answered; of those that were at all
//   decisions.txt     for people: what was decided when, and why

import { join } from 'node:path'
import type { CoreRecord } from '@stellwerk/coordinator/replay/replay.ts'
import { CoordinatorReplay } from '@stellwerk/coordinator/replay/replay.ts'
import { formatDate, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createAppendFile, demandEmptyDirectory } from '@stellwerk/runtime/node/append-file.ts'
import { coreRecords } from './replay.ts'
import type { TraceSpan } from './show-filter.ts'
import type { TraceSource } from './source.ts'

export interface Scenario {
  /** `YYYY-MM-DD HH:MM:SS.mmm` of the first and the last input. */
  readonly from: string
  readonly to: string
  readonly inputs: readonly CoreRecord[]
  readonly expected: readonly { readonly input: number; readonly value: Json }[]
  readonly decisions: readonly string[]
}

/** Inputs of one scenario: what is longer is no incident but a life. */
const INPUTS_MAX = 20_000

/** Of that time (`toMs` excluded). Throws `empty-scenario`, `trace-gap`, `other-decisions`, and what reading throws. */
export async function scenarioOf(source: TraceSource, { fromMs, toMs }: TraceSpan): Promise<Scenario> {
  const replay = new CoordinatorReplay()
  const inputs: CoreRecord[] = []
  const expected: { input: number; value: Json }[] = []
  const decisions: string[] = []
  let count = 0
  let from = ''
  let to = ''
  for await (const each of coreRecords(source)) {
    if (each === null) {
      if (inputs.length > 0) throw gap(source)
      replay.lose()
      continue
    }
    const { core, record } = each
    const { wallMs } = record.hlc
    const when = `${formatDate(wallMs)} ${formatTime(wallMs)}`
    if (toMs !== undefined && wallMs >= toMs) break
    const inside = fromMs === undefined || wallMs >= fromMs
    // It begins with an input, in the state that the ones before it have led to.
    if (inside && inputs.length === 0) {
      const state = core.kind === 'input' ? replay.snapshot() : null
      if (state !== null) inputs.push({ kind: 'snapshot', value: state, at: core.at })
    }
    const difference = replay.take(core)
    if (difference !== null) throw other(source, difference.at)
    if (!inside || (core.kind !== 'snapshot' && inputs.length === 0)) continue
    if (core.kind === 'output') {
      expected.push({ input: count, value: core.value })
      decisions.push(...told(core.value, when))
      continue
    }
    inputs.push(core)
    if (core.kind === 'snapshot') continue
    count += 1
    if (count > INPUTS_MAX) throw tooLong(source)
    if (from === '') from = when
    to = when
  }
  if (count === 0) {
    throw new StellwerkError('empty-scenario', 'the coordinator was fed nothing in that time', {
      where: source.where,
      hint: 'name a time of the trace with --since and --until, as stellwerk trace show writes it',
    })
  }
  return { from, to, inputs, expected, decisions }
}

/** Throws `not-empty`. */
export function writeScenario(directory: string, scenario: Scenario, about: string): void {
  demandEmptyDirectory(directory, 'name an empty or a new directory with --out')
  const lines = (values: readonly unknown[]) => values.map(value => `${JSON.stringify(value)}\n`).join('')
  const files = {
    'README.md': readme(scenario, about),
    'inputs.ndjson': lines(scenario.inputs),
    'expected.ndjson': lines(scenario.expected),
    'decisions.txt': scenario.decisions.map(line => `${line}\n`).join(''),
  }
  for (const [name, text] of Object.entries(files)) {
    const file = createAppendFile(join(directory, name))
    file.append(Buffer.from(text))
    file.close()
  }
}

/** A scenario's two files as one sequence, for a replay. */
export function recordsOf(inputs: string, expected: string): CoreRecord[] {
  const parsed = (text: string) => text.split('\n').flatMap(line => (line === '' ? [] : [JSON.parse(line) as unknown]))
  const answers = new Map(
    (parsed(expected) as { input: number; value: Json }[]).map(({ input, value }) => [input, value]),
  )
  let count = 0
  return (parsed(inputs) as CoreRecord[]).flatMap(record => {
    if (record.kind !== 'input') return [record]
    count += 1
    const value = answers.get(count)
    return value === undefined ? [record] : [record, { kind: 'output', value, at: record.at }]
  })
}

function readme({ from, to, inputs, expected, decisions }: Scenario, about: string): string {
  const fed = inputs.filter(({ kind }) => kind === 'input').length
  const restarts = inputs.length - fed - 1
  return `# ${about}

Recorded from ${from} to ${to} UTC: ${fed} inputs of the coordinator's core${restarts === 0 ? '' : `, ${restarts} restarts of it`}, ${expected.length} with an answer, ${decisions.length} decisions.

* \`inputs.ndjson\`: the state it begins with, then what the core was fed, in order;
* \`expected.ndjson\`: what it answered, by the number of the input;
* \`decisions.txt\`: the decisions, for people.

\`test/scenarios/scenarios.test.ts\` feeds the one to the core and expects the other. Where the core is to decide otherwise
from now on, record the incident anew.
`
}

/** The decisions among what an input was answered. */
function told(value: Json, when: string): string[] {
  const { effects } = (value ?? {}) as { readonly effects?: readonly { readonly event?: Json }[] }
  return (effects ?? []).flatMap(({ event }) => {
    const { body } = (event ?? {}) as { readonly body?: { readonly [key: string]: Json } }
    if (body?.['chose'] === undefined) return []
    return [`${when}  ${body['kind']} ${body['subject']}: ${body['chose']} (${body['why']})`]
  })
}

function gap(source: TraceSource): StellwerkError {
  return new StellwerkError('trace-gap', 'records of the coordinator are missing in that time', {
    where: source.where,
    hint: 'name a time without a gap with --since and --until',
  })
}

function other(source: TraceSource, at: string): StellwerkError {
  return new StellwerkError('other-decisions', `this version does not decide what is on record at ${at}`, {
    where: source.where,
    hint: 'see: stellwerk trace replay; make the scenario with the version that recorded it',
  })
}

function tooLong(source: TraceSource): StellwerkError {
  return new StellwerkError('too-long', `that is more than ${INPUTS_MAX} inputs`, {
    where: source.where,
    hint: 'name a shorter time with --since and --until',
  })
}
