// Shapes that several message families share.

import { type TProperties, Type } from 'typebox'

/** An object without any other property. */
export const closed = <P extends TProperties>(properties: P) => Type.Object(properties, { additionalProperties: false })

/** A non-negative integer that fits a double: an epoch, an incarnation, a count of bytes. */
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** What operators name things: letters, digits, `.`, `_`, `-`; begins with a letter or digit. */
export const NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
export const Name = Type.String({ pattern: NAME_PATTERN })
