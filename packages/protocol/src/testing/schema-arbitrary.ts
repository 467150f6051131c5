// Values that fit a schema, for property tests: draws what the checker accepts, edges included. Knows the parts of JSON
// Schema that the protocol's schemas use, and fails on any other, so that no message goes untested.
import fc from 'fast-check'
import type { TSchema } from '../schema/typebox.js'

export function arbitraryOf(schema: TSchema): fc.Arbitrary<unknown> {
  const s = schema as Record<string, unknown>
  if (Array.isArray(s['anyOf'])) return fc.oneof(...(s['anyOf'] as TSchema[]).map(arbitraryOf))
  if ('const' in s) return fc.constant(s['const'])
  if (Array.isArray(s['enum'])) return fc.constantFrom(...(s['enum'] as unknown[]))
  if (typeof s['~bytes'] === 'number') return fc.uint8Array({ maxLength: Math.min(64, s['~bytes']) })
  switch (s['type']) {
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'integer':
      return fc.integer(bounds(s, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER))
    case 'number':
      return fc.double({ ...bounds(s, -1e300, 1e300), noNaN: true })
    case 'bigint':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
    case 'string':
      return stringOf(s)
    case 'array':
      return arrayOf(s)
    case 'object':
      return objectOf(s)
    case undefined:
      // Keys called __proto__ come back renamed, so that no decoded object has a foreign prototype.
      if (Object.keys(s).length === 0) {
        return fc.jsonValue().map(json => JSON.parse(JSON.stringify(json).replaceAll('__proto__', 'proto')))
      }
      break
  }
  throw new Error(`no arbitrary for ${JSON.stringify(schema)}`)
}

function bounds(s: Record<string, unknown>, min: number, max: number): { min: number; max: number } {
  return { min: (s['minimum'] as number | undefined) ?? min, max: (s['maximum'] as number | undefined) ?? max }
}

function stringOf(s: Record<string, unknown>): fc.Arbitrary<string> {
  const minLength = (s['minLength'] as number | undefined) ?? 0
  const maxLength = Math.max(minLength, Math.min(40, (s['maxLength'] as number | undefined) ?? 40))
  if (typeof s['pattern'] === 'string') return fc.stringMatching(new RegExp(s['pattern']), { maxLength: 64 })
  return fc.string({ minLength, maxLength, unit: 'binary' }).filter(text => [...text].length >= minLength)
}

function arrayOf(s: Record<string, unknown>): fc.Arbitrary<unknown> {
  const items = s['items']
  if (Array.isArray(items)) return fc.tuple(...(items as TSchema[]).map(arbitraryOf))
  const minLength = (s['minItems'] as number | undefined) ?? 0
  const maxLength = Math.max(minLength, Math.min(8, (s['maxItems'] as number | undefined) ?? 8))
  return fc.array(arbitraryOf(items as TSchema), { minLength, maxLength })
}

function objectOf(s: Record<string, unknown>): fc.Arbitrary<unknown> {
  const patterns = Object.entries((s['patternProperties'] ?? {}) as Record<string, TSchema>)
  if (patterns.length > 0) {
    const [pattern, value] = patterns[0]!
    const keys = fc.stringMatching(new RegExp(pattern), { maxLength: 20 }).filter(key => key !== '__proto__')
    return fc.dictionary(keys, arbitraryOf(value), { maxKeys: 5, noNullPrototype: true })
  }
  const properties = Object.entries((s['properties'] ?? {}) as Record<string, TSchema>)
  const shape = Object.fromEntries(properties.map(([key, value]) => [key, arbitraryOf(value)]))
  return fc.record(shape, { requiredKeys: (s['required'] as string[] | undefined) ?? [], noNullPrototype: true })
}
