// What a source hands over behind the last page of a guest's memory, in-band; and what a target believes of it.

import { compileChecker } from '@stellwerk/protocol/messages/family.ts'
import { Count, closed } from '@stellwerk/protocol/messages/fields.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** What the target must be at least at, and takes over. */
export interface ReleasedTrailer {
  readonly migration: string
  readonly epoch: number
  /** The disks'; they look at it themselves. */
  readonly handover: Json
  readonly releasedWallMs: number
}

const checker = compileChecker(
  closed({
    migration: Type.String({ maxLength: 64 }),
    epoch: Count,
    handover: Type.Unknown(),
    releasedWallMs: Type.Number(),
  }),
)

/** Throws `bad-handover`. */
export function parseTrailer(trailer: Json): ReleasedTrailer {
  if (checker.check(trailer)) return trailer as unknown as ReleasedTrailer
  throw new StellwerkError(
    'bad-handover',
    `what came behind the last page is no hand-over: ${checker.explain(trailer)}`,
  )
}
