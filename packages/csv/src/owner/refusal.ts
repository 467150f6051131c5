// Why an owner refuses. The codes are API. `final` ones mean that asking again changes nothing; all others pass by
// themselves, or when somebody makes room.

import { type ErrorDetails, StellwerkError } from '@stellwerk/runtime/errors.ts'

const FINAL = [
  'disk-missing',
  'disk-exists',
  'disk-attached',
  'disk-too-small',
  'stale-epoch',
  'not-attached',
  'not-reserved',
  'already-committed',
  'too-many-disks',
  'no-slot',
  'host-unknown',
  'bad-index',
  'bad-size',
  'cluster-copy-too-large',
  'read-only-disk',
  'not-a-snapshot',
  'chain-too-long',
  'not-mirrored',
  'unknown-leg',
  'no-scrub',
] as const

const PASSING = [
  'attached',
  'disk-switching',
  'volume-full',
  'metadata-full',
  'extent-unreadable',
  'barrier-failed',
  'owner-failed',
  'owner-closed',
  'owner-busy',
  'other-generation',
  'leg-not-in-sync',
  'scrub-running',
] as const

export type RefusalCode = (typeof FINAL)[number] | (typeof PASSING)[number]

const FINAL_SET: ReadonlySet<string> = new Set(FINAL)

/** True for an owner's refusal that will not change: the asker must give up. */
export function isFinal(code: string): boolean {
  return FINAL_SET.has(code)
}

export function refuse(
  code: RefusalCode,
  message: string,
  details: Omit<ErrorDetails, 'retryable'> = {},
): StellwerkError {
  return new StellwerkError(code, message, { ...details, retryable: !FINAL_SET.has(code) })
}
