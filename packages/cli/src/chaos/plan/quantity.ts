// Durations and limits as a plan writes them: `10s`, `5s..15s`, `lease + 2s`. A number without a unit is none: nobody could
// see what it counts.

import { HOUR_MS, MINUTE_MS, SECOND_MS } from '@stellwerk/runtime/units.ts'

const UNITS: { readonly [unit: string]: number } = { ms: 1, s: SECOND_MS, min: MINUTE_MS, m: MINUTE_MS, h: HOUR_MS }

/** What to say of one that is none. */
export const DURATION_HINT = 'say 500ms, 10s or 5min'

/** Whole milliseconds, below zero too; null: it is no duration. */
export function durationOf(text: string): number | null {
  const match = /^([+-]?\d+(?:\.\d+)?)\s*(ms|s|min|m|h)$/.exec(text.trim())
  const unit = UNITS[match?.[2] ?? '']
  if (match === null || unit === undefined) return null
  const ms = Number(match[1]) * unit
  // 0.3 s is not quite 300 ms in binary.
  const whole = Math.round(ms)
  return Math.abs(ms - whole) < 1e-6 && Number.isSafeInteger(whole) ? whole : null
}

/** `5s..15s`, or one duration for both ends. */
export function rangeOf(text: string): readonly [number, number] | null {
  const [first = '', last = first, ...more] = text.split('..')
  const least = durationOf(first)
  const most = durationOf(last)
  return least === null || most === null || most < least || more.length > 0 ? null : [least, most]
}

/** The shortest that says it exactly. */
export function formatDuration(ms: number): string {
  if (ms !== 0 && ms % MINUTE_MS === 0) return `${ms / MINUTE_MS}min`
  return ms % 100 === 0 && Math.abs(ms) >= SECOND_MS ? `${ms / SECOND_MS}s` : `${ms}ms`
}

/** So many leases of the cluster that is judged, and so much time. */
export interface Span {
  readonly leases: number
  readonly ms: number
}

/** `lease + 2s`, `2 lease + 500ms`, `lease`, `2s`; null: it is none. */
export function spanOf(text: string): Span | null {
  const match = /^(?:(\d+)\s*)?lease(?:\s*\+\s*(.+))?$/.exec(text.trim())
  if (match === null) {
    const ms = durationOf(text)
    return ms === null || ms <= 0 ? null : { leases: 0, ms }
  }
  const ms = match[2] === undefined ? 0 : durationOf(match[2])
  const leases = Number(match[1] ?? 1)
  return ms === null || ms < 0 || leases < 1 ? null : { leases, ms }
}

export function formatSpan({ leases, ms }: Span): string {
  if (leases === 0) return formatDuration(ms)
  const lease = leases === 1 ? 'lease' : `${leases} lease`
  return ms === 0 ? lease : `${lease} + ${formatDuration(ms)}`
}
