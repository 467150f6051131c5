// `stellwerk trace export`: a trace for Wireshark, for the Perfetto UI, or for one's own programs.

import { resolve } from 'node:path'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type CommandSpec, DIR, FAILED, type Input, OK } from '../command-line/command.ts'
import { oneOf } from '../command-line/values.ts'
import { exportTrace, FORMATS } from '../trace/export.ts'
import { ABOUT, checkNames, explainNothing, filterOf, PROCESS, TIMES } from '../trace/show-filter.ts'
import { FROM, openTrace } from '../trace/source.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

export const exporting: CommandSpec = {
  words: 'trace export',
  args: [],
  options: {
    dir: DIR,
    from: FROM,
    format: {
      type: 'string',
      value: 'pcapng|perfetto|ndjson',
      help: 'for Wireshark, for ui.perfetto.dev, or JSON lines',
    },
    out: { type: 'string', value: 'FILE', help: 'the file to make' },
    level: { type: 'string', value: 'decision|message|io', help: 'up to this level (default message)' },
    process: PROCESS,
    ...ABOUT,
    ...TIMES,
  },
  summary: 'A trace as a file for Wireshark (tools/wireshark has the dissector), Perfetto, or JSON lines',
  run: async (context, input) => {
    const { terminal } = context
    const format = oneOf('format', demanded(input, 'format', FORMATS.join(', ')), FORMATS)
    const path = resolve(terminal.cwd, demanded(input, 'out', 'a file that is not there yet'))
    const source = await openTrace(context.directory(input), input.texts('from'))
    checkNames(source, input)
    const names = input.texts('process')
    const filter = await filterOf(source, input, 'message')
    const damage: Damage = { count: 0 }
    const { records, bytes } = await exportTrace(source, {
      ...{ format, path, filter, ...tolerant(context, damage) },
      ...(names.length === 0 ? {} : { names }),
      onNothing: () => explainNothing(source, filter),
    })
    terminal.out(`${records} records as ${format}: ${path}, ${bytes} bytes`)
    return damage.count === 0 ? OK : FAILED
  },
}

function demanded(input: Input, option: string, choice: string): string {
  const value = input.text(option)
  if (value !== undefined && value !== '') return value
  throw new StellwerkError('usage', `--${option} is missing`, {
    where: 'stellwerk trace export',
    hint: `name ${choice}: stellwerk trace export --format pcapng --out trace.pcapng`,
  })
}
