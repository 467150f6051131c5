// `stellwerk trace export`: a trace for Wireshark, for the Perfetto UI, or for one's own programs.

import { resolve } from 'node:path'
import type { TraceFilter } from '@stellwerk/protocol/trace/filter.ts'
import { LEVELS } from '@stellwerk/protocol/trace/segment-format.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type CommandSpec, DIR, FAILED, type Input, OK } from '../command-line/command.ts'
import { oneOf } from '../command-line/values.ts'
import { exportTrace, FORMATS } from '../trace/export.ts'
import { FROM, openTrace } from '../trace/source.ts'

const IDS = ['host', 'vm', 'volume', 'migration'] as const

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
    kind: { type: 'string', multiple: true, value: 'K', help: 'only vm.run, or vm.* for a family' },
    host: { type: 'string', value: 'H', help: 'about this host' },
    vm: { type: 'string', value: 'VM', help: 'about this VM' },
    volume: { type: 'string', value: 'V', help: 'about this volume' },
    migration: { type: 'string', value: 'ID', help: 'about this migration' },
  },
  summary: 'A trace as a file for Wireshark (tools/wireshark has the dissector), Perfetto, or JSON lines',
  run: async (context, input) => {
    const { terminal } = context
    const format = oneOf('format', demanded(input, 'format', FORMATS.join(', ')), FORMATS)
    const path = resolve(terminal.cwd, demanded(input, 'out', 'a file that is not there yet'))
    const filter = filterOf(input)
    const source = await openTrace(context.directory(input), input.texts('from'))
    let damaged = 0
    const tell = (error: StellwerkError) => {
      damaged += 1
      terminal.err(`stellwerk: ${describeError(error)}`)
    }
    const { records, bytes } = await exportTrace(source, { format, path, filter, onDamaged: tell, onGap: tell })
    terminal.out(`${records} records as ${format}: ${path}, ${bytes} bytes`)
    return damaged === 0 ? OK : FAILED
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

function filterOf(input: Input): TraceFilter {
  const level = oneOf('level', input.text('level') ?? 'message', LEVELS)
  const kinds = input.texts('kind')
  const ids: Record<string, string> = {}
  for (const id of IDS) {
    const value = input.text(id)
    if (value !== undefined) ids[id] = value
  }
  return { levels: LEVELS.slice(0, LEVELS.indexOf(level) + 1), ...(kinds.length === 0 ? {} : { kinds }), ...ids }
}
