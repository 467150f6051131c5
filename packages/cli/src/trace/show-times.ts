// Instants as people say them to `stellwerk trace`: `5m` (before the end), `14:02:13.123`, `2026-01-02T03:04:05Z`. All UTC, as the
// traces are shown.

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
  const clock = /^(\d{2}):(\d{2})(?::(\d{2})(\.\d{1,3})?)?$/.exec(text)
  if (clock !== null) {
    const [, hours, minutes, seconds = '0', fraction = ''] = clock
    if (Number(hours) > 23 || Number(minutes) > 59 || Number(seconds) > 59) throw badTime(option, text)
    const ofDay = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(`${seconds}${fraction}`)) * 1_000
    const today = Math.floor(endMs / DAY_MS) * DAY_MS + ofDay
    return today > endMs ? today - DAY_MS : today
  }
  if (/^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?Z?)?$/.test(text)) {
    const whole = text.length === 10 ? `${text}T00:00:00Z` : `${text.replace(' ', 'T').replace(/Z?$/, 'Z')}`
    const at = Date.parse(whole)
    if (Number.isFinite(at)) return at
  }
  throw badTime(option, text)
}

function badTime(option: string, text: string): StellwerkError {
  return new StellwerkError('bad-time', `"${text}" is no time`, {
    where: `--${option}`,
    hint: 'say 5m (before the end; ms, s, m, h, d), 14:02:13.5 or 2026-01-02T14:02:13Z, in UTC as traces are shown',
  })
}
