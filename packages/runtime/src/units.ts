// Units, so that a number in the code says what it counts.

export const KIB = 1024
export const MIB = 1024 * KIB
export const GIB = 1024 * MIB

export const SECOND_MS = 1000
export const MINUTE_MS = 60 * SECOND_MS
export const HOUR_MS = 60 * MINUTE_MS

/** For people: whole MiB, rounded down. */
export function inMiB(bytes: number): string {
  return `${Math.floor(bytes / MIB)} MiB`
}
