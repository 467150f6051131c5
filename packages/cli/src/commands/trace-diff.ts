// `stellwerk trace diff A B`: where two recorded runs part.

import { formatLine } from '@stellwerk/protocol/trace/format-line.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type CommandSpec, FAILED, type Input, JSON_OUT, OK } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { type Comparison, compare, type Difference } from '../trace/diff.ts'
import { levelsUpTo, PROCESS } from '../trace/show-filter.ts'
import { openTrace, type TraceSource } from '../trace/source.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

export const diff: CommandSpec = {
  words: 'trace diff',
  args: ['A', 'B'],
  options: {
    process: PROCESS,
    level: { type: 'string', value: 'decision|message|io', help: 'up to this level (default io)' },
    'ignore-times': { type: 'boolean', help: 'compare what happened, not when: for runs that are not of one seed' },
    context: { type: 'string', value: 'N', help: 'records before and after a difference (default 3)' },
    json: JSON_OUT,
  },
  summary: 'The first record of each process in which two traces differ; each is a directory or a segment',
  run: async (context, input) => {
    const [pathA = '', pathB = ''] = input.args
    const filter = { levels: levelsUpTo(input.text('level') ?? 'io') }
    const around = parseCount('context', input.text('context') ?? '3', 0, 100)
    const a = await openTrace('', [pathA])
    const b = await openTrace('', [pathB])
    const names = namesOf(input, a, b)
    const damage: Damage = { count: 0 }
    const found = await compare(a, b, {
      a: { filter, ...tolerant(context, damage) },
      b: { filter, ...tolerant(context, damage) },
      context: around,
      ignoreTimes: input.flag('ignore-times'),
      ...(names === undefined ? {} : { names }),
    })
    const isSame = found.differences.length + found.onlyA.length + found.onlyB.length === 0
    const { terminal } = context
    if (input.flag('json')) terminal.out(JSON.stringify({ isSame, ...found }))
    else for (const line of linesOf(found, pathA, pathB)) terminal.out(line)
    return isSame && damage.count === 0 ? OK : FAILED
  },
}

/** Throws `unknown-process`. */
function namesOf(input: Input, a: TraceSource, b: TraceSource): readonly string[] | undefined {
  const names = input.texts('process')
  const known = [...new Set([...a.names, ...b.names])].sort()
  const unknown = names.find(name => !known.includes(name))
  if (unknown === undefined) return names.length === 0 ? undefined : names
  throw new StellwerkError('unknown-process', `there is no process "${unknown}"`, {
    where: '--process',
    hint: `known: ${known.join(', ')}`,
  })
}

function linesOf({ differences, same, onlyA, onlyB }: Comparison, pathA: string, pathB: string): string[] {
  const only = [
    ...onlyA.map(name => `${name} is only in ${pathA}`),
    ...onlyB.map(name => `${name} is only in ${pathB}`),
  ]
  if (differences.length === 0 && only.length === 0) return [`the same: ${same} records`]
  const [first] = differences
  const head = first === undefined ? [] : [`they part first in ${first.process}, ${whatOf(first)}`, '']
  return [...head, ...differences.flatMap(difference => [...partOf(difference, pathA, pathB), '']), ...only]
}

function whatOf({ a: [a], b: [b], same, fields }: Difference): string {
  if (a === undefined) return `where A ends after ${same} records`
  if (b === undefined) return `where B ends after ${same} records`
  return `after ${same} records that are the same: ${fields.join(', ')}`
}

function partOf(difference: Difference, pathA: string, pathB: string): string[] {
  const { process, before, a, b } = difference
  const line = (record: TraceRecord) => formatLine(record, { full: true })
  const side = (mark: string, path: string, records: readonly TraceRecord[]) =>
    records.length === 0 ? [`${mark} ${path} ends here`] : records.map(record => `${mark} ${line(record)}`)
  const head = `${process}: ${whatOf(difference)}`
  return [head, ...before.map(record => `  ${line(record)}`), ...side('-', pathA, a), ...side('+', pathB, b)]
}
