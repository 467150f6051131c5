// One run of the command line: find the command, parse its input, run it; a failure is one line and an exit code.

import { join, resolve } from 'node:path'
import { describeError, errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { ApiClient } from '../api-client/client.ts'
import { apiOf, DEFAULT_DIRECTORY } from '../cluster/directory.ts'
import { type CommandContext, type CommandSpec, FAILED, type Input, OK, type Terminal, USAGE } from './command.ts'
import { FAMILIES } from './families.ts'
import { findCommand, helpOf, parseInput } from './parse.ts'

const HELP_OPTIONS = new Set(['--help', '-h'])

export async function runCommandLine(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    if (asksForHelp(argv)) return await help(argv, terminal)
    const commands = await load(argv[0] ?? '')
    const command = findCommand(commands, argv)
    if (command === null) throw unknownCommand(commands, argv)
    return await command.run(contextOf(terminal), parseInput(command, argv))
  } catch (error) {
    terminal.err(`stellwerk: ${describeError(error)}`)
    return errorCode(error) === 'usage' ? USAGE : FAILED
  }
}

/** A VM, a host or a file may be called "help": as a word it asks only where a command's first stands. */
function asksForHelp(argv: readonly string[]): boolean {
  return argv.length === 0 || argv[0] === 'help' || optionsOf(argv).some(word => HELP_OPTIONS.has(word))
}

/** What comes after `--` is no option. */
function optionsOf(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--')
  return end === -1 ? argv : argv.slice(0, end)
}

async function load(word: string): Promise<readonly CommandSpec[]> {
  const family = Object.hasOwn(FAMILIES, word) ? FAMILIES[word] : undefined
  if (family !== undefined) return (await family()).commands
  throw new StellwerkError('usage', `there is no command "${word}"`, { hint: 'see: stellwerk help' })
}

function unknownCommand(commands: readonly CommandSpec[], argv: readonly string[]): StellwerkError {
  const [word = '', second] = argv
  const known = commands
    .filter(command => command.words.startsWith(`${word} `))
    .map(command => command.words.slice(word.length + 1))
  const what = second === undefined ? `"${word}" needs another word` : `there is no command "${word} ${second}"`
  return new StellwerkError('usage', what, { hint: `say: stellwerk ${word} ${known.join('|')}` })
}

async function help(argv: readonly string[], terminal: Terminal): Promise<number> {
  const words = optionsOf(argv[0] === 'help' ? argv.slice(1) : argv).filter(word => !word.startsWith('-'))
  const [first] = words
  const commands: CommandSpec[] = []
  if (first !== undefined) commands.push(...(await load(first)))
  else for (const family of new Set(Object.values(FAMILIES))) commands.push(...(await family()).commands)
  const unique = [...new Set(commands)]
  let prefix = words.join(' ')
  const fits = (text: string) => unique.some(c => c.words === text || c.words.startsWith(`${text} `))
  while (prefix !== '' && !fits(prefix)) prefix = prefix.split(' ').slice(0, -1).join(' ')
  if (prefix === '') {
    for (const line of ['Stellwerk: a failover cluster for virtual machines on plain hosts.', '']) terminal.out(line)
  }
  for (const line of helpOf(unique, prefix)) terminal.out(line)
  if (prefix === '') {
    for (const line of ['', '  stellwerk help COMMAND   tells a command’s options']) terminal.out(line)
  }
  return OK
}

function contextOf(terminal: Terminal): CommandContext {
  const directory = (input: Input) =>
    resolve(
      terminal.cwd,
      input.text('dir') ?? terminal.variables['STELLWERK_DIR'] ?? join(terminal.cwd, DEFAULT_DIRECTORY),
    )
  return {
    terminal,
    directory,
    isRemote: terminal.variables['STELLWERK_API'] !== undefined,
    api: async input => remoteApi(terminal) ?? (await apiOf(directory(input))),
  }
}

/** A cluster that is not of this machine is named by its API's address and token. */
function remoteApi(terminal: Terminal): ApiClient | null {
  const { STELLWERK_API: address, STELLWERK_TOKEN: token } = terminal.variables
  if (address === undefined) return null
  const match = /^(?:http:\/\/)?(\[[0-9a-fA-F:]+\]|[0-9A-Za-z.-]+):(\d{1,5})\/?$/.exec(address)
  const port = Number(match?.[2])
  if (match === null || port < 1 || port > 65_535) {
    throw new StellwerkError('bad-address', `"${address}" is no address of an API`, {
      where: 'STELLWERK_API',
      hint: 'say http://HOST:PORT',
    })
  }
  // It goes into a header: what is no word of plain letters can't.
  if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) {
    throw new StellwerkError('no-token', `the API’s token is ${token === undefined ? 'missing' : 'damaged'}`, {
      where: 'STELLWERK_TOKEN',
      hint: 'set it to what the file api-token in the coordinator’s directory says',
    })
  }
  return new ApiClient({ host: (match[1] ?? '').replace(/^\[|\]$/g, ''), port, token })
}
