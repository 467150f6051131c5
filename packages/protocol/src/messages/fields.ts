// The fields that message schemas are built of: names, counts, bytes, bounded lists, words.
import { type TProperties, type TSchema, type TUnsafe, Type } from '../schema/typebox.js'

/** An object that refuses what it doesn't name. */
export const closed = <P extends TProperties>(properties: P) => Type.Object(properties, { additionalProperties: false })

/** A whole number from 0 on that fits a double: an epoch, an incarnation, a count of bytes. */
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** A stamp of a hybrid logical clock. */
export const HlcSchema = closed({ wallMs: Count, counter: Count })

/** What operators name things: letters, digits, `.`, `_`, `-`; begins with a letter or digit. */
export const NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'

/** The name of a host, VM, volume, process. */
export const Name = Type.String({ pattern: NAME_PATTERN })

/** Bytes. What `decode` gives is a view into the received frame: copy it to keep it. */
export function Bytes(maxBytes: number): TUnsafe<Uint8Array> {
  const bytes = Type.Unsafe<Uint8Array>({ '~bytes': maxBytes })
  return Type.Refine(
    bytes,
    value => value instanceof Uint8Array && value.byteLength <= maxBytes,
    () => `must be at most ${maxBytes} bytes`,
  ) as unknown as TUnsafe<Uint8Array>
}

/** Text for humans. */
export const Text = Type.String({ maxLength: 2000 })

export function List<const T extends TSchema>(items: T, maxItems: number) {
  return Type.Array(items, { maxItems })
}

/** One of a few words. */
export function OneOf<const W extends readonly string[]>(...words: W): TUnsafe<W[number]> {
  return Type.Union(words.map(word => Type.Literal(word))) as unknown as TUnsafe<W[number]>
}
