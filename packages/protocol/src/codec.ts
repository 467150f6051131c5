// Envelopes to frames and back. On the wire an envelope is a msgpack array in a fixed order: half the bytes and time of a
// map. What comes from a link is never trusted: every way in which a frame can be wrong ends in a coded error.
import { assert } from '@stellwerk/runtime/assert.ts'
import { LINK_FRAME_MAX_BYTES } from '@stellwerk/runtime/credited-link.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import {
  type Envelope,
  type Failure,
  FailureSchema,
  MAX_ADDRESS_LENGTH,
  MAX_DEADLINE_MS,
  MAX_KIND_LENGTH,
} from './envelope.ts'
import { compileChecker, type Registry, registry as sharedRegistry, unknownKind } from './messages/family.ts'
import { packr } from './msgpack.ts'

/** The largest frame unless told: a session's codec has the limit of its link's class. */
export const MAX_FRAME_BYTES = LINK_FRAME_MAX_BYTES.bulk

const failureChecker = compileChecker(FailureSchema)

export interface Codec {
  /** A misfit body is a bug of the sender: an assertion. Too large for a frame: `frame-too-large`. */
  encode(envelope: Envelope): Uint8Array
  /** Throws a StellwerkError: `frame-too-large`, `undecodable`, `unknown-kind`, `misfit`. */
  decode(frame: Uint8Array): Envelope
}

export interface CodecOptions {
  readonly registry?: Registry
  readonly maxFrameBytes?: number
}

// The places of an envelope's fields on the wire.
const V = 0
const KIND = 1
const FROM = 2
const TO = 3
const SEQ = 4
const RE = 5
const CAUSE_PROCESS = 6
const CAUSE_SEQ = 7
const TERM = 8
const DEADLINE_MS = 9
const WALL_MS = 10
const COUNTER = 11
const ERROR = 12
const BODY = 13
const FIELDS = 14

export function createCodec(options: CodecOptions = {}): Codec {
  const registry = options.registry ?? sharedRegistry
  const maxFrameBytes = options.maxFrameBytes ?? MAX_FRAME_BYTES

  function encode(envelope: Envelope): Uint8Array {
    const { v, kind, from, to, seq, re, cause, term, deadlineMs, hlc, error, body } = envelope
    const message = registry.get(kind)
    assert(message !== undefined, `no imported family defines ${kind}`)
    if (error !== undefined)
      assert(body === null && re !== undefined, `a failed reply has a request and no body: ${kind}`)
    else {
      const checker = re === undefined ? message.request : message.reply
      assert(checker !== null, `${kind} is not answered`)
      if (!checker.check(body))
        assert(false, `a ${kind}${re === undefined ? '' : ' reply'} that does not fit: ${checker.explain(body)}`)
    }
    const frame = packr.pack([
      v,
      kind,
      from,
      to,
      seq,
      re ?? null,
      cause?.process ?? null,
      cause?.seq ?? null,
      term ?? null,
      deadlineMs ?? null,
      hlc.wallMs,
      hlc.counter,
      error ?? null,
      body,
    ])
    if (frame.byteLength > maxFrameBytes) {
      throw new StellwerkError('frame-too-large', `a ${kind} of ${frame.byteLength} bytes (at most ${maxFrameBytes})`)
    }
    return frame
  }

  function decode(frame: Uint8Array): Envelope {
    if (frame.byteLength > maxFrameBytes) {
      throw new StellwerkError('frame-too-large', `a frame of ${frame.byteLength} bytes (at most ${maxFrameBytes})`)
    }
    let fields: unknown
    try {
      fields = packr.unpack(frame)
    } catch (error) {
      // Its text may quote the frame, and with it a credential: only its name is passed on.
      const what = error instanceof Error ? error.name : 'unknown'
      throw new StellwerkError('undecodable', `a frame of ${frame.byteLength} bytes that is no msgpack (${what})`)
    }
    if (!Array.isArray(fields) || fields.length !== FIELDS) throw misfit('it is no envelope')
    const kind = text(fields, KIND, 'kind', MAX_KIND_LENGTH)
    const message = registry.get(kind)
    if (message === undefined) throw unknownKind(kind)
    const re = optionalCount(fields, RE, 're')
    const error = fields[ERROR] === null ? undefined : failure(fields[ERROR])
    const body: unknown = fields[BODY]
    if (error === undefined) {
      const checker = re === undefined ? message.request : message.reply
      if (checker === null) throw misfit(`${kind} is not answered`)
      if (!checker.check(body)) throw misfit(`${kind}: ${checker.explain(body)}`)
    } else if (re === undefined || body !== null) throw misfit(`${kind}: a failure that is no reply, or has a body`)
    const envelope: { -readonly [K in keyof Envelope]: Envelope[K] } = {
      v: count(fields, V, 'v'),
      kind,
      from: text(fields, FROM, 'from', MAX_ADDRESS_LENGTH),
      to: text(fields, TO, 'to', MAX_ADDRESS_LENGTH),
      seq: count(fields, SEQ, 'seq'),
      hlc: { wallMs: count(fields, WALL_MS, 'hlc'), counter: count(fields, COUNTER, 'hlc') },
      body,
    }
    if (re !== undefined) envelope.re = re
    if (error !== undefined) envelope.error = error
    if (fields[CAUSE_PROCESS] !== null) {
      envelope.cause = {
        process: text(fields, CAUSE_PROCESS, 'cause', MAX_ADDRESS_LENGTH),
        seq: count(fields, CAUSE_SEQ, 'cause'),
      }
    } else if (fields[CAUSE_SEQ] !== null) throw misfit('half a cause')
    const term = optionalCount(fields, TERM, 'term')
    if (term !== undefined) envelope.term = term
    const deadlineMs: unknown = fields[DEADLINE_MS]
    if (deadlineMs !== null) {
      if (!(typeof deadlineMs === 'number' && deadlineMs >= 0 && deadlineMs <= MAX_DEADLINE_MS))
        throw misfit('deadlineMs')
      envelope.deadlineMs = deadlineMs
    }
    return envelope
  }

  return { encode, decode }
}

function misfit(what: string): StellwerkError {
  return new StellwerkError('misfit', `a message that does not fit: ${what}`, {
    hint: 'the two processes may be of different versions',
  })
}

function text(fields: readonly unknown[], at: number, name: string, maxLength: number): string {
  const value = fields[at]
  if (typeof value !== 'string' || value.length > maxLength) throw misfit(`envelope ${name}`)
  return value
}

function count(fields: readonly unknown[], at: number, name: string): number {
  const value = fields[at]
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw misfit(`envelope ${name}`)
  return value as number
}

function optionalCount(fields: readonly unknown[], at: number, name: string): number | undefined {
  return fields[at] === null ? undefined : count(fields, at, name)
}

function failure(value: unknown): Failure {
  if (!failureChecker.check(value)) throw misfit(`failure: ${failureChecker.explain(value)}`)
  return value as Failure
}
