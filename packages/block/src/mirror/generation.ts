// A mirror's generation: which legs count, at one moment, by the coordinator's durable word. Storage refuses connections
// of another generation and says which one it has been told, with the legs' roles: that is how a host learns of it even
// while the coordinator is away.

/** `syncing`: written like an in-sync leg, never read from, never a survivor. `stale`: not connected to at all. */
export type LegRole = 'in-sync' | 'syncing' | 'stale'

export interface Generation {
  readonly number: number
  /** By the leg's id. */
  readonly legs: { readonly [leg: string]: LegRole }
}

const REFUSED = /generation-refused (\d+) (\{[^{}]*\})/
const ROLES: readonly string[] = ['in-sync', 'syncing', 'stale']

/** What a storage that refused a generation has been told instead; null where the text is no such refusal. */
export function storedGeneration(text: string): Generation | null {
  const found = REFUSED.exec(text)
  if (found === null) return null
  const legs = parseLegs(found[2]!)
  return legs === null ? null : { number: Number(found[1]), legs }
}

function parseLegs(text: string): Generation['legs'] | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // Cut short on its way: the refusal comes again with the next attempt.
    return null
  }
  const legs = parsed as Record<string, unknown>
  return Object.values(legs).every(role => ROLES.includes(role as string)) ? (legs as Generation['legs']) : null
}

export function isWritable(role: LegRole | undefined): boolean {
  return role === 'in-sync' || role === 'syncing'
}

/** In the order of their ids, which is that of preference. */
export function legIds(generation: Generation): string[] {
  return Object.keys(generation.legs).sort()
}

export function describeGeneration({ number, legs }: Generation): string {
  const roles = Object.keys(legs)
    .sort()
    .map(leg => `${leg} ${legs[leg]}`)
  return `generation ${number} (${roles.join(', ')})`
}
