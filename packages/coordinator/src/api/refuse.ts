// Refusals of the HTTP API: which status an error's code has, and the errors of the API itself.

import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'

const NOT_FOUND = /^(unknown-|no-such-disk)/
const BAD_REQUEST = new Set([
  'bad-name',
  'bad-size',
  'bad-legs',
  'bad-request',
  'too-large',
  'disk-too-large',
  'bad-parameter',
  'bad-guest',
  'bad-machine',
  'bad-memory-size',
  'bad-policy',
])
/** Nothing is wrong with the request: somebody it needs does not answer now. */
const AWAY = new Set([
  'deadline',
  'link-lost',
  'link-busy',
  'no-host',
  'no-such-actor',
  'owner-away',
  'source-away',
  'storage-unreachable',
  'unconfirmed-state',
  'unreachable',
])

export function statusOfError(error: unknown): number {
  if (!(error instanceof StellwerkError)) return 500
  const code = errorCode(error)
  if (code === 'unauthorized') return 401
  if (code === 'internal') return 500
  if (code === 'not-here') return 501
  if (NOT_FOUND.test(code) && code !== 'unknown-kind') return 404
  if (BAD_REQUEST.has(code)) return 400
  if (AWAY.has(code)) return 503
  return 409
}

export function unknownThing(what: string, name: string): StellwerkError {
  return new StellwerkError(`unknown-${what.toLowerCase()}`, `there is no ${what} "${name}"`, {
    hint: `see: stellwerk ${what.toLowerCase()} list`,
  })
}

export function badRequest(message: string, hint: string): StellwerkError {
  return new StellwerkError('bad-request', message, { hint })
}
