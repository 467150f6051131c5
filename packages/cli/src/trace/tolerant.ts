// How the commands of `stellwerk trace` bear what is broken: what is cut off, damaged or missing is said, and the rest is still
// shown. What a kill cut off is no damage.

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
): Pick<Required<TraceReadOptions>, 'onDamaged' | 'onGap' | 'onTruncated'> {
  const told = new Set<string>()
  const isNews = (what: string): boolean => {
    // Some commands read twice.
    if (told.has(what) || told.size >= TOLD_MAX) return false
    told.add(what)
    terminal.err(`stellwerk: ${what}`)
    return true
  }
  const tell = (error: StellwerkError) => {
    if (isNews(describeError(error))) damage.count += 1
  }
  return {
    onDamaged: tell,
    onGap: tell,
    onTruncated: ({ file, offset }) =>
      void isNews(`${file} ends within a record, at byte ${offset}, as a kill leaves it: what is before that is shown`),
  }
}
