// What a run with real processes puts on record itself, and what of theirs is not believed.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Fault } from './fault.ts'

/** Of the directories of runs; what a killed run has left is found by it. */
export const SCRATCH_PREFIX = 'stellwerk-chaos-'

/** What guests say is believed as the observer heard it, not as their hosts tell it. */
export const SAID: ReadonlySet<string> = new Set(['guest.acknowledged', 'guest.recovered'])

/** Of a record: whom the fault hits, where one asks for a host, and all of it. */
export function about(fault: Fault): Pick<TraceRecord, 'host' | 'body'> {
  const { id, kind, ...what } = fault
  const body = { id, fault: kind, ...what }
  return fault.host === undefined ? { body } : { host: fault.host, body }
}

/** What it was to hit is down, or stands still, by another fault: then this one adds nothing, as with machines. */
export function isIdle(error: unknown): boolean {
  if (!(error instanceof StellwerkError)) return false
  if (error.code === 'not-running' || error.code === 'no-mirror') return true
  return error.code === 'docker-failed' && /is not running|already paused|no agent runs there/.test(error.message)
}
