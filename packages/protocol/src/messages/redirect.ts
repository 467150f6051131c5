// The redirected path: what a host asks a peer on a fresh io link. Answered well, the link is from then on the byte stream
// of one NBD connection to a portal of that storage, which the peer passes on as it is.

import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { closed, Name, Text } from './fields.ts'

/** The longest export name of NBD. */
const MAX_EXPORT_NAME = 4096

export const redirectFamily = defineFamily('redirect', {
  /** `exportName` as it will be asked for: it names the asking host, and the peer as `via`. */
  'redirect.open': {
    request: closed({ storage: Name, exportName: Type.String({ minLength: 1, maxLength: MAX_EXPORT_NAME }) }),
    /** The peer's own HBA that it goes over. */
    reply: closed({ hba: Text }),
  },
})
export type RedirectOpen = Static<(typeof redirectFamily.messages)['redirect.open']['request']>
