// How far something long is, for people: a bar, percent, speed, and how long it takes yet where that can be known.

import type { MigrationView } from '@stellwerk/coordinator/view/schemas.ts'
import { age, bytes } from './units.ts'

const FULL = '█'
const EMPTY = '░'

/** As many characters as `width`; full only at 100 %. */
export function bar(percent: number, width: number): string {
  const full = Math.floor((Math.min(100, Math.max(0, percent)) / 100) * width)
  return FULL.repeat(full) + EMPTY.repeat(width - full)
}

/** `about 12.0 s left`; nothing where nobody knows. */
export function estimate(leftMs: number | null, word = 'about'): string {
  return leftMs === null || leftMs === 0 ? '' : `${word} ${age(leftMs)} left`
}

/** `precopy to host-b: 63 %, about 1.2 s left, 25 MiB of 64 MiB at 40 MiB/s, round 2, 80 MiB sent`. */
export function migrationPhrase(migration: MigrationView): string {
  const { progress, phase, to } = migration
  return progress === null ? `${phase} to ${to}` : `${phase} to ${to}: ${progress.percent} %, ${copyPhrase(progress)}`
}

/** What is left, how fast it goes, and when it can be switched. */
export function copyPhrase(progress: NonNullable<MigrationView['progress']>): string {
  const { round, leftBytes, totalBytes, sentBytes, bytesPerSecond, dirtyBytesPerSecond, leftMs } = progress
  // Before a round has ended nobody knows what the guest changes meanwhile.
  const left = estimate(leftMs, round <= 1 ? 'at least' : 'about')
  const runsAway = leftMs === null && bytesPerSecond > 0 && dirtyBytesPerSecond >= bytesPerSecond
  return [
    ...(left === '' ? [] : [left]),
    `${bytes(leftBytes)} of ${bytes(totalBytes)}${bytesPerSecond === 0 ? '' : ` at ${bytes(bytesPerSecond)}/s`}`,
    ...(runsAway ? [`the guest changes ${bytes(dirtyBytesPerSecond)}/s meanwhile`] : []),
    `round ${round}, ${bytes(sentBytes)} sent`,
  ].join(', ')
}
