// The restart policy of a VM on the command line: its options, and how it is shown.

import type { VmView } from '@stellwerk/coordinator/view/schemas.ts'
import type { Input, OptionSpec } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { age } from '../render/units.ts'

const COUNT_MAX = 100
const MS_MIN = 10
const MS_MAX = 604_800_000

export const RESTART_OPTIONS: { readonly [name: string]: OptionSpec } = {
  'max-restarts': { type: 'string', value: 'N', help: 'crashes of its own within the window before it is given up' },
  'max-relocations': { type: 'string', value: 'N', help: 'starts on another host after a loss, likewise (no limit)' },
  'restart-window': { type: 'string', value: 'MS', help: 'in which these are counted' },
  backoff: { type: 'string', value: 'MS', help: 'before the first restart; doubled at each further one' },
  'backoff-max': { type: 'string', value: 'MS', help: 'up to this' },
}

/** Only what was given: the rest is as the cluster's settings have it. */
export function restartPolicyOf(input: Input): { readonly [name: string]: number } {
  const policy: { [name: string]: number } = {}
  const take = (option: string, name: string, minimum: number, maximum: number): void => {
    const text = input.text(option)
    if (text !== undefined) policy[name] = parseCount(option, text, minimum, maximum)
  }
  take('max-restarts', 'maxRestarts', 0, COUNT_MAX)
  take('max-relocations', 'maxRelocations', 0, COUNT_MAX)
  take('restart-window', 'windowMs', MS_MIN, MS_MAX)
  take('backoff', 'backoffMs', MS_MIN, MS_MAX)
  take('backoff-max', 'backoffMaxMs', MS_MIN, MS_MAX)
  return policy
}

export function restartFacts({ restart, crashes, relocations }: VmView): [string, string][] {
  const { maxRestarts, maxRelocations, windowMs, backoffMs, backoffMaxMs } = restart
  const within = `within ${age(windowMs)}`
  return [
    ['restarts', `${crashes} of ${maxRestarts} ${within}, after ${age(backoffMs)} up to ${age(backoffMaxMs)}`],
    ['relocations', maxRelocations === null ? 'as many as it takes' : `${relocations} of ${maxRelocations} ${within}`],
  ]
}
