// The hash of everything that travels: all registered messages and the envelope. It changes when, and only when, what is
// accepted on the wire changes: not with the order of properties or files.
import { createHash } from 'node:crypto'
import { EnvelopeSchema } from './envelope.ts'
import type { Registry } from './messages/family.ts'

export function schemaHash(registry: Registry): string {
  const hash = createHash('sha256')
  hash.update(canonical(EnvelopeSchema))
  for (const { kind, request, reply } of registry.all()) {
    hash.update(`\n${kind}\n${canonical(request.schema)}\n${reply === null ? 'null' : canonical(reply.schema)}`)
  }
  return hash.digest('hex').slice(0, 32)
}

/** JSON with sorted keys and without what is no data (functions of refined schemas). */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value)
    .filter(([key, inner]) => inner !== undefined && typeof inner !== 'function' && key !== '~refine')
    // `required` lists properties in the order they were written, which means nothing.
    .map(([key, inner]) => [key, key === 'required' && Array.isArray(inner) ? [...inner].sort() : inner] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join(',')}}`
}
