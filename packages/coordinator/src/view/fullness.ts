// How full a volume is, in the words operators are warned with. Pure.

import type { Usage } from './schemas.ts'

/** Percent from which on it is told that a volume fills up, and that it is nearly full. */
export const WARN_PERCENT = 80
export const ALARM_PERCENT = 90

export type Fullness = 'ok' | 'filling-up' | 'nearly-full' | 'full'

export function percentUsed({ usedBytes, freeBytes }: Pick<Usage, 'usedBytes' | 'freeBytes'>): number {
  const all = usedBytes + freeBytes
  return all === 0 ? 0 : Math.floor((100 * usedBytes) / all)
}

export function fullnessOf(usage: Pick<Usage, 'usedBytes' | 'freeBytes'>): Fullness {
  if (usage.freeBytes === 0) return 'full'
  const percent = percentUsed(usage)
  if (percent >= ALARM_PERCENT) return 'nearly-full'
  return percent >= WARN_PERCENT ? 'filling-up' : 'ok'
}

/** Null: nothing to warn of. */
export function warningOf(usage: Pick<Usage, 'usedBytes' | 'freeBytes'> | null): string | null {
  if (usage === null) return null
  const fullness = fullnessOf(usage)
  if (fullness === 'ok') return null
  if (fullness === 'full') return 'full: who writes there stands still until room is made'
  return `${percentUsed(usage)} % full`
}
