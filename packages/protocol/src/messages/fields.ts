// Fields that TypeBox does not have: bytes, bounded lists, words. Shapes with a meaning are in shapes.ts.
import Type, { type TSchema, type TUnsafe } from 'typebox'

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
