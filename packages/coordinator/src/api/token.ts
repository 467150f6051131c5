// The API's token: whoever shows it may do anything that an operator may. Compared in constant time.

import { createHash, timingSafeEqual } from 'node:crypto'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** Throws `unauthorized`. */
export function checkToken(header: string | undefined, token: string): void {
  const shown = /^Bearer +(\S+)$/i.exec(header ?? '')?.[1]
  // Hashed first: then neither the length nor where the two differ shows in the time it takes.
  if (shown !== undefined && timingSafeEqual(digest(shown), digest(token))) return
  const message = shown === undefined ? 'the request carries no token' : 'the token is not this cluster’s'
  throw new StellwerkError('unauthorized', message, {
    hint: 'send "Authorization: Bearer TOKEN" with the token from the cluster directory’s file api-token',
  })
}
