// Instants as people say them to `stellwerk trace`: `5m` (before the end), `14:02:13.123`, `2026-01-02T03:04:05Z`. All UTC, as the
// traces are shown.

import { formatDate } from '@stellwerk/protocol/trace/format-line.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const DAY_MS = 86_400_000
const UNITS: { readonly [unit: string]: number } = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: DAY_MS }

/**
 * Ms since 1970. `endMs`: what a span is counted back from, and whose day a time of day belongs to (or the day before, if it is
 * later than the end). Throws `bad-time`.
 */
export function parseInstant(option: string, text: string, endMs: number): number {
  const span = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text)
  if (span !== null) return endMs - Number(span[1]) * UNITS[span[2]!]!
  const ofDay = ofDayMs(text)
  if (ofDay !== null) {
    const today = Math.floor(endMs / DAY_MS) * DAY_MS + ofDay
    return today > endMs ? today - DAY_MS : today
  }
  const date = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?)Z?)?$/.exec(text)
  if (date !== null) {
    const [, year, month, day, time = '00:00'] = date
    const startMs = dayOf(Number(year), Number(month), Number(day)) * DAY_MS
    // A day that its month does not have is read as another.
    const timeMs = ofDayMs(time)
    if (timeMs !== null && formatDate(startMs) === text.slice(0, 10)) return startMs + timeMs
  }
  throw badTime(option, text)
}

/** `14:02`, `14:02:13`, `14:02:13.5`; null: it is no time of a day. */
function ofDayMs(text: string): number | null {
  const clock = /^(\d{2}):(\d{2})(?::(\d{2}(?:\.\d{1,3})?))?$/.exec(text)
  if (clock === null) return null
  const [hours, minutes, seconds] = [Number(clock[1]), Number(clock[2]), Number(clock[3] ?? '0')]
  if (hours > 23 || minutes > 59 || seconds >= 60) return null
  return Math.round(((hours * 60 + minutes) * 60 + seconds) * 1_000)
}

/** Days from 1970 to a date, by years that begin on March 1st: their lengths then follow one rule. */
function dayOf(year: number, month: number, day: number): number {
  const shifted = month > 2 ? year : year - 1
  const months = month > 2 ? month - 3 : month + 9
  const leaps = Math.floor(shifted / 4) - Math.floor(shifted / 100) + Math.floor(shifted / 400)
  return 365 * shifted + leaps + Math.floor((153 * months + 2) / 5) + day - 1 - 719_468
}

function badTime(option: string, text: string): StellwerkError {
  return new StellwerkError('bad-time', `"${text}" is no time`, {
    where: `--${option}`,
    hint: 'say 5m (before the end; ms, s, m, h, d), 14:02:13.5 or 2026-01-02T14:02:13Z, in UTC as traces are shown',
  })
}
