// From the words of a command line to a command and its input, or to an error that says what is wrong with which word.

import { parseArgs } from 'node:util'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CommandSpec, Input, OptionSpec } from './command.ts'

/** The longest command first: `vm list` before `vm`. */
export function findCommand(commands: readonly CommandSpec[], argv: readonly string[]): CommandSpec | null {
  const matches = commands.filter(command => {
    const words = command.words.split(' ')
    return words.every((word, i) => argv[i] === word)
  })
  return matches.sort((a, b) => b.words.length - a.words.length)[0] ?? null
}

export function parseInput(command: CommandSpec, argv: readonly string[]): Input {
  const rest = argv.slice(command.words.split(' ').length)
  // All may be given several times as far as the parser goes: which value would count otherwise, nobody could see.
  const options: Record<string, { type: 'string' | 'boolean'; multiple: true }> = {}
  for (const [name, { type }] of Object.entries(command.options)) options[name] = { type, multiple: true }
  let parsed: { values: Record<string, (string | boolean)[] | undefined>; positionals: string[] }
  try {
    parsed = parseArgs({ args: [...rest], options, allowPositionals: true, strict: true }) as typeof parsed
  } catch (error) {
    throw usageError(command, plainReason(errorMessage(error)))
  }
  const { values, positionals } = parsed
  for (const [name, spec] of Object.entries(command.options)) {
    if (spec.multiple !== true && (values[name]?.length ?? 0) > 1) throw usageError(command, `--${name} came twice`)
  }
  const needed = command.args.filter(arg => !arg.endsWith('?'))
  if (positionals.length < needed.length) throw usageError(command, `${needed[positionals.length]} is missing`)
  const extra = positionals[command.args.length]
  if (extra !== undefined) throw usageError(command, `"${extra}" is one word too many`)
  return {
    args: positionals,
    text: name => values[name]?.[0] as string | undefined,
    texts: name => (values[name] as string[] | undefined) ?? [],
    flag: name => values[name]?.[0] === true,
  }
}

/** Node explains at length how to pass positionals that begin with a dash; the first sentence is what matters. */
function plainReason(message: string): string {
  const first = message.split(/\.(?:\s|$)/)[0] ?? message
  return first.charAt(0).toLowerCase() + first.slice(1)
}

export function usageError(command: CommandSpec, message: string): StellwerkError {
  return new StellwerkError('usage', message, {
    where: `stellwerk ${command.words}`,
    hint: `usage: ${usageOf(command)}`,
  })
}

export function usageOf(command: CommandSpec): string {
  const args = command.args.map(arg => (arg.endsWith('?') ? `[${arg.slice(0, -1)}]` : arg))
  const options = Object.entries(command.options).map(([name, spec]) => `[${optionUsage(name, spec)}]`)
  return ['stellwerk', command.words, ...args, ...options].join(' ')
}

export function optionUsage(name: string, spec: OptionSpec): string {
  const value = spec.type === 'string' ? ` ${spec.value ?? 'TEXT'}` : ''
  return `--${name}${value}${spec.multiple === true ? ' …' : ''}`
}

/** The help of one command, or of all whose words begin with `prefix`. */
export function helpOf(commands: readonly CommandSpec[], prefix: string): string[] {
  const about = commands.filter(command => command.words === prefix || command.words.startsWith(`${prefix} `))
  const shown = prefix === '' ? commands : about
  if (shown.length === 1 && shown[0] !== undefined) {
    const [command] = shown
    const options = Object.entries(command.options).map(
      ([name, spec]) => `  ${optionUsage(name, spec).padEnd(24)} ${spec.help}`,
    )
    return [command.summary, '', `  ${usageOf(command)}`, ...(options.length === 0 ? [] : ['', ...options])]
  }
  const width = Math.max(...shown.map(command => headOf(command).length))
  return shown.map(command => `  ${headOf(command).padEnd(width)}  ${command.summary}`)
}

function headOf(command: CommandSpec): string {
  return [
    'stellwerk',
    command.words,
    ...command.args.map(arg => (arg.endsWith('?') ? `[${arg.slice(0, -1)}]` : arg)),
  ].join(' ')
}
