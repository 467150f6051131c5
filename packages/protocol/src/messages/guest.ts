// Guest modules that operators bring: named by what they are, kept by the coordinator, fetched by agents piece by piece.

import { Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Bytes, Count, closed, List } from './fields.ts'

/** So short that a heartbeat behind a piece is not late. */
export const MODULE_PIECE_BYTES = 128 * 1024
export const MAX_MODULES_LISTED = 1024

/** SHA-256 of the module, in hexadecimal. */
export const DigestSchema = Type.String({ pattern: '^[0-9a-f]{64}$' })

export const guestFamily = defineFamily('guest', {
  /** To `coordinator/guests` or `HOST/guests`. Fails with `guest-missing` where it is not. */
  'guest.read': {
    request: closed({ digest: DigestSchema, offset: Count }),
    reply: closed({ sizeBytes: Count, data: Bytes(MODULE_PIECE_BYTES) }),
  },
  /** From an agent: these are in its cache. */
  'guest.cached': {
    request: closed({ digests: List(DigestSchema, MAX_MODULES_LISTED) }),
    reply: closed({ unused: List(DigestSchema, MAX_MODULES_LISTED) }),
  },
})
