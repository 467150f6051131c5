// The options of the bench, out of its words; or one line that says which word is wrong.

import { parseArgs } from 'node:util'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface BenchOptions {
  readonly names: readonly string[]
  readonly json: boolean
  readonly quick: boolean
  readonly rounds: number
  readonly seconds: number
}

const ROUNDS_MAX = 1_000
const SECONDS_MAX = 3_600

/** Throws `usage`. */
export function parseBenchOptions(args: readonly string[], groups: readonly string[]): BenchOptions {
  const values = parsed(args)
  const names = values.only?.split(',') ?? groups
  const unknown = names.filter(name => !groups.includes(name))
  if (unknown.length > 0) {
    throw usage(`there is no group ${unknown.map(name => `"${name}"`).join(', ')}`, `groups: ${groups.join(', ')}`)
  }
  const json = values.json === true
  const quick = values.quick === true
  const rounds = Number(values.rounds ?? (quick ? 1 : 5))
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX) {
    throw usage(`--rounds is "${values.rounds}"`, `say a whole number from 1 to ${ROUNDS_MAX}`)
  }
  const seconds = Number(values.seconds ?? (quick ? 1 : 2))
  if (!(seconds > 0 && seconds <= SECONDS_MAX)) {
    throw usage(`--seconds is "${values.seconds}"`, `say a number above 0, at most ${SECONDS_MAX}`)
  }
  return { names, json, quick, rounds, seconds }
}

function parsed(args: readonly string[]) {
  const flag = { type: 'boolean' } as const
  const text = { type: 'string' } as const
  const options = { json: flag, quick: flag, only: text, rounds: text, seconds: text }
  try {
    return parseArgs({ args: [...args], options }).values
  } catch (error) {
    const [first] = errorMessage(error).split(/\.(?:\s|$)/)
    throw usage(first ?? errorMessage(error), 'usage: [--only GROUP,…] [--rounds N] [--seconds S] [--quick] [--json]')
  }
}

function usage(what: string, hint: string): StellwerkError {
  return new StellwerkError('usage', what, { hint })
}
