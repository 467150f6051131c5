// Proving a volume while its owner has it open: asked of the owner, which stands still for it.

import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, List, Name, OneOf, Text } from './fields.ts'

/** Findings in one answer; more are counted. */
export const MAX_FINDINGS = 500

export const CheckAnswerSchema = closed({
  clean: Type.Boolean(),
  findings: List(
    closed({
      leg: Name,
      code: Type.String({ maxLength: 64 }),
      severity: OneOf('damage', 'degraded', 'leak'),
      where: Text,
      message: Text,
    }),
    MAX_FINDINGS,
  ),
  /** Findings that found no room. */
  more: Count,
  summary: Type.Union([
    Type.Null(),
    closed({
      volumeId: Type.String(),
      disks: Count,
      usedExtents: Count,
      extents: Count,
      sequence: Count,
      ownerEpoch: Count,
    }),
  ]),
})
export type CheckAnswer = Static<typeof CheckAnswerSchema>

export const volumeCheckFamily = defineFamily('volume-check', {
  /** Between two journal writes: what is on the legs, against itself and against what the owner believes. */
  'volume.check': { request: closed({ volume: Name }), reply: CheckAnswerSchema },
})
