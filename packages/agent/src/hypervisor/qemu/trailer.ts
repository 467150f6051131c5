// What stands behind the last piece of a migration stream: what the source hands over, and what its guest has said that nobody has
// heard yet, of which the last line may have no end.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Unheard } from './console.ts'

export interface Trailer {
  /** Whatever the source's agent gives. */
  readonly handedOver: Json
  readonly unheard: Unheard
}

export function encodeTrailer({ handedOver, unheard: { bytes, shown } }: Trailer): Json {
  return { handedOver, unheard: Buffer.from(bytes).toString('base64'), shown }
}

/** Throws `corrupt-data`. */
export function decodeTrailer(trailer: Json): Trailer {
  const { handedOver, unheard, shown } = (typeof trailer === 'object' && trailer !== null ? trailer : {}) as {
    readonly [key: string]: Json | undefined
  }
  const bytes = typeof unheard === 'string' ? Buffer.from(unheard, 'base64') : null
  const isShown = typeof shown === 'number' && Number.isInteger(shown) && shown >= 0
  if (handedOver === undefined || bytes === null || !isShown || shown > bytes.length) {
    throw new StellwerkError('corrupt-data', 'the trailer of the migration stream is none')
  }
  return { handedOver, unheard: { bytes, shown } }
}
