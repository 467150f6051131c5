// The fields that message schemas are built of. Every string and array that comes from a link has a bound.
import Type, { type TObject, type TProperties, type TSchema, type TUnsafe } from 'typebox'

/** An object that refuses what it doesn't name. */
export function closed<const P extends TProperties>(properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: false }) as unknown as TObject<P>
}

/** A whole number from 0 on: a count, a size, an offset, an epoch. */
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** A duration in milliseconds; may be a fraction. */
export const DurationMs = Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** The name of a host, VM, volume, process. */
export const Name = Type.String({ minLength: 1, maxLength: 128 })

/** A name made by a machine: nanoid's alphabet, or a LUN's name. */
export const Id = Type.String({ minLength: 1, maxLength: 64 })

/** Text for humans. */
export const Text = Type.String({ maxLength: 2000 })

/** Bytes. What `decode` gives is a view into the received frame: copy it to keep it. */
export function Bytes(maxBytes: number): TUnsafe<Uint8Array> {
  const bytes = Type.Unsafe<Uint8Array>({ '~bytes': maxBytes })
  return Type.Refine(
    bytes,
    value => value instanceof Uint8Array && value.byteLength <= maxBytes,
    () => `must be at most ${maxBytes} bytes`,
  ) as unknown as TUnsafe<Uint8Array>
}

export function List<const T extends TSchema>(items: T, maxItems: number) {
  return Type.Array(items, { maxItems })
}

/** One of a few words. */
export function OneOf<const W extends readonly string[]>(...words: W): TUnsafe<W[number]> {
  return Type.Union(words.map(word => Type.Literal(word))) as unknown as TUnsafe<W[number]>
}

/** The value, or null where there is none. */
export function Nullable<const T extends TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()])
}
