// What stands behind the last piece of a migration stream: what the source hands over, and how its guest's serial port stands, with what
// it has said that nobody has heard yet.

import { CONSOLE_RECENT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { PortHandover } from './console.ts'

export interface Trailer {
  /** Whatever the source's agent gives. */
  readonly handedOver: Json
  readonly port: PortHandover
}

const LIFE_MAX = 64
/** Of bytes that a port has sent: more than any does. */
const AT_MAX = 2 ** 52

export function encodeTrailer({ handedOver, port: { life, at, recent, unheard, shown } }: Trailer): Json {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
  return { handedOver, port: { life, at, recent: text(recent), unheard: text(unheard), shown } }
}

/** Throws `corrupt-data`. */
export function decodeTrailer(trailer: Json): Trailer {
  const { handedOver, port } = fieldsOf(trailer)
  const { life, at, recent, unheard, shown } = fieldsOf(port)
  const isNamed = typeof life === 'string' && life.length > 0 && life.length <= LIFE_MAX
  if (handedOver === undefined || !isNamed || !isCount(at) || !isCount(shown)) throw none()
  if (typeof recent !== 'string' || typeof unheard !== 'string') throw none()
  const decoded = { recent: Buffer.from(recent, 'base64'), unheard: Buffer.from(unheard, 'base64') }
  if (shown > decoded.unheard.length || decoded.recent.length > CONSOLE_RECENT_BYTES) throw none()
  return { handedOver, port: { life, at, ...decoded, shown } }
}

function fieldsOf(value: Json | undefined): { readonly [key: string]: Json | undefined } {
  return typeof value === 'object' && value !== null ? (value as { readonly [key: string]: Json }) : {}
}

function isCount(value: Json | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= AT_MAX
}

function none(): StellwerkError {
  return new StellwerkError('corrupt-data', 'the trailer of the migration stream is none')
}
