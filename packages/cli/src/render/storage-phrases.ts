// How a host reaches a volume, and how far a VM has come down the ladder of storage loss, in a few words.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { age } from './units.ts'

/** `redirected via host-b to san-a for 12.0 s (fabric-0/san-a: connection reset)`. */
export function accessPhrase(access: Omit<Status['hosts'][string]['access'][number], 'volume'>): string {
  const { state, storage, via, why, sinceMs } = access
  const carried = via === null ? '' : ` via ${via}`
  const since = sinceMs === null ? '' : ` for ${age(sinceMs)}`
  const because = state === 'redirected' || state === 'paused' ? ` (${why})` : ''
  return `${state}${carried} to ${storage}${since}${because}`
}

/** `redirected for 12.0 s, csv1 on san-a (via host-b; no path of its own is up)`. */
export function rungPhrase({
  rung,
  sinceMs,
  volume,
  storage,
  why,
}: NonNullable<Status['vms'][string]['storage']>): string {
  const since = sinceMs === null ? '' : ` for ${age(sinceMs)}`
  const where = volume === null ? '' : `, ${volume} on ${storage}`
  return `${rung}${since}${where}${why === '' || rung === 'direct' ? '' : ` (${why})`}`
}
