// The options of `stellwerk sim`, out of its words; or one line that says which word is wrong.

import { parseArgs } from 'node:util'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface SimOptions {
  /** The seeds to run, in order. */
  readonly seeds: readonly string[]
  /** One seed was named: it is shown in detail. */
  readonly replay: boolean
  readonly json: boolean
  readonly jobs: number
  /** A planted bug, by name. */
  readonly canary: string | null
  /** The time of faults of every seed ends so early, in simulated ms; null: as the seed draws it. */
  readonly safetyMs: number | null
  /** A directory in which the one seed's run is written down as trace segments. */
  readonly trace: string | null
}

const SEEDS_DEFAULT = 20
const SEEDS_MAX = 1_000_000
const JOBS_MAX = 64
const SAFETY_MAX_S = 3_600

const SIM_USAGE =
  'stellwerk sim [--seeds N] [--first S] [--jobs J] [--canary NAME] [--safety SECONDS] [--json], or stellwerk sim --seed S [--canary NAME] [--safety SECONDS] [--trace DIR] [--json]'

export function parseSimOptions(args: readonly string[]): SimOptions {
  const { seed, seeds, first, jobs, json, canary, safety, trace } = parsed(args)
  if (seed !== undefined && (seeds !== undefined || first !== undefined)) {
    throw usage('--seed names one seed; --seeds and --first are for many')
  }
  if (seed === '') throw usage('--seed is empty')
  if (trace !== undefined && seed === undefined) throw usage('--trace records one seed: name it with --seed')
  if (trace === '') throw usage('--trace is empty')
  const from = number('--first', first, 1, 0, Number.MAX_SAFE_INTEGER - SEEDS_MAX)
  const count = number('--seeds', seeds, SEEDS_DEFAULT, 1, SEEDS_MAX)
  return {
    seeds: seed === undefined ? Array.from({ length: count }, (_, i) => String(from + i)) : [seed],
    replay: seed !== undefined,
    json: json === true,
    jobs: number('--jobs', jobs, 1, 1, JOBS_MAX),
    canary: canary ?? null,
    safetyMs: safety === undefined ? null : 1_000 * number('--safety', safety, 0, 1, SAFETY_MAX_S),
    trace: trace ?? null,
  }
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const many = { seeds: text, first: text, jobs: text } as const
  const options = { ...many, seed: text, canary: text, safety: text, trace: text, json: flag } as const
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw usage(firstSentence(errorMessage(error)))
  }
}

/** Node explains at length how to pass what begins with a dash. */
function firstSentence(message: string): string {
  return message.split(/\.(?:\s|$)/)[0] ?? message
}

function number(name: string, text: string | undefined, otherwise: number, least: number, most: number): number {
  if (text === undefined) return otherwise
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= least && value <= most) return value
  throw usage(`${name} wants a whole number from ${least} to ${most}, not '${text}'`)
}

export function usage(what: string): StellwerkError {
  return new StellwerkError('usage', what, { where: 'stellwerk sim', hint: `usage: ${SIM_USAGE}` })
}
