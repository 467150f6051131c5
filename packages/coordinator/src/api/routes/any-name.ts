// A name as people may give one. The coordinator checks it and says what is wrong with it; here it is only text, and bounded.

import { Type } from '@stellwerk/protocol/schema/typebox.js'

/** So long a name may be to be told that it is none. */
export const NAME_TEXT_MAX = 4_096

export const AnyName = Type.String({ maxLength: NAME_TEXT_MAX })
