// What every message on a link is wrapped in. The body's shape is its family's business (messages/).
import type { Failure } from '@stellwerk/runtime/actors/failure.ts'
import type { Cause, Hlc } from '@stellwerk/runtime/environment.ts'
import { Count, closed, HlcSchema } from './messages/fields.ts'
import { Type } from './schema/typebox.js'

export type { Failure } from '@stellwerk/runtime/actors/failure.ts'

export interface Envelope<Body = unknown> {
  /** The protocol version the session agreed on. */
  readonly v: number
  readonly kind: string
  readonly from: string
  readonly to: string
  /** Counts the sender's messages on this session from 1. */
  readonly seq: number
  /** The `seq` of the request this answers. */
  readonly re?: number
  /** The trace record that led to this message. */
  readonly cause?: Cause
  /** The coordinator's term. */
  readonly term?: number
  /** How long the sender still waits: a duration, since clocks of two hosts have nothing in common. */
  readonly deadlineMs?: number
  readonly hlc: Hlc
  /** A reply that failed; its body is null. */
  readonly error?: Failure
  readonly body: Body
}

/** Nothing waits longer than a day for a reply. */
export const MAX_DEADLINE_MS = 86_400_000
/** An address has a few segments, each a name. */
export const MAX_ADDRESS_LENGTH = 512
export const MAX_KIND_LENGTH = 64

export const FailureSchema = closed({
  code: Type.String({ maxLength: 2000 }),
  message: Type.String({ maxLength: 2000 }),
  retryable: Type.Boolean(),
  where: Type.Optional(Type.String({ maxLength: 2000 })),
  hint: Type.Optional(Type.String({ maxLength: 2000 })),
})

/** Kept as a schema for the protocol's hash and documents; the codec checks it by hand, as it stands in every frame. */
export const EnvelopeSchema = closed({
  v: Count,
  kind: Type.String({ maxLength: MAX_KIND_LENGTH }),
  from: Type.String({ maxLength: MAX_ADDRESS_LENGTH }),
  to: Type.String({ maxLength: MAX_ADDRESS_LENGTH }),
  seq: Count,
  re: Type.Optional(Count),
  cause: Type.Optional(closed({ process: Type.String({ maxLength: MAX_ADDRESS_LENGTH }), seq: Count })),
  term: Type.Optional(Count),
  deadlineMs: Type.Optional(Type.Number({ minimum: 0, maximum: MAX_DEADLINE_MS })),
  hlc: HlcSchema,
  error: Type.Optional(FailureSchema),
  body: Type.Unknown(),
})
