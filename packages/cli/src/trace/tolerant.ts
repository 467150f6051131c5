// How the commands of `stellwerk trace` bear what is broken: what a kill cut off is no damage; what is damaged or missing is said,
// and the rest is still shown.

import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import { describeError, type StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CommandContext } from '../command-line/command.ts'

/** Told so far: each makes the command fail. */
export interface Damage {
  count: number
}

/** What is told of in one command, at most; the rest is only counted. */
const TOLD_MAX = 100

export function tolerant(
  { terminal }: CommandContext,
  damage: Damage = { count: 0 },
): Pick<TraceReadOptions, 'onDamaged' | 'onGap'> {
  const told = new Set<string>()
  const tell = (error: StellwerkError) => {
    const what = describeError(error)
    // Some commands read twice.
    if (told.has(what) || told.size >= TOLD_MAX) return
    told.add(what)
    damage.count += 1
    terminal.err(`stellwerk: ${what}`)
  }
  return { onDamaged: tell, onGap: tell }
}
