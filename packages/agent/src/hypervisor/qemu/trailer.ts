// What stands behind the last piece of a migration stream: what the source hands over, and what its guest has said that nobody has
// heard yet, of which the last line may have no end.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface Trailer {
  /** Whatever the source's agent gives. */
  readonly handedOver: Json
  readonly unheard: Uint8Array
}

export function encodeTrailer({ handedOver, unheard }: Trailer): Json {
  return { handedOver, unheard: Buffer.from(unheard).toString('base64') }
}

/** Throws `corrupt-data`. */
export function decodeTrailer(trailer: Json): Trailer {
  const { handedOver, unheard } = (typeof trailer === 'object' && trailer !== null ? trailer : {}) as {
    readonly [key: string]: Json | undefined
  }
  if (handedOver === undefined || typeof unheard !== 'string') {
    throw new StellwerkError('corrupt-data', 'the trailer of the migration stream is none')
  }
  return { handedOver, unheard: Buffer.from(unheard, 'base64') }
}
