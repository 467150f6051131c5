// The shape of a plan's file. What its words mean (durations, names, kinds) is read by parse-plan.ts, which can point at them.

import { closed, Name } from '@stellwerk/protocol/messages/fields.ts'
import { Compile, type Static, type TSchema, Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Path, PlanText } from './place.ts'

/** A word, or a number: whether it has the unit that it needs is told where it is read. */
const Word = Type.Unknown()
const Maybe = Type.Optional(Word)
const Flag = Type.Optional(Type.Boolean())
const AtOnce = Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000 }))

/** What may be said of a fault; which of it a kind has is told by fault-table.ts. */
const PARAMETERS = {
  for: Maybe,
  host: Maybe,
  peer: Maybe,
  storage: Maybe,
  fabric: Maybe,
  network: Maybe,
  oneWay: Flag,
  fabrics: Flag,
  chance: Maybe,
  delay: Maybe,
  jitter: Maybe,
  rate: Maybe,
  by: Maybe,
}

/** `every`: again, so long after the last time, for as long as the plan lasts. */
export const FaultEntry = closed({ at: Word, kind: Word, every: Maybe, ...PARAMETERS })
export type FaultEntry = Static<typeof FaultEntry>

export const RandomKindEntry = closed({
  weight: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 })),
  ...PARAMETERS,
})
export type RandomKindEntry = Static<typeof RandomKindEntry>

export const ObjectiveEntry = closed({ within: Word, disturbed: Flag })

export const FAULTS_MAX = 1_000

export const PlanEntry = closed({
  name: Name,
  summary: Type.String({ minLength: 1, maxLength: 2_000 }),
  seed: Maybe,
  cluster: Type.Optional(closed({ hosts: Maybe, storages: Maybe })),
  workload: Type.Optional(
    closed({
      vms: Type.Optional(Type.Integer({ minimum: 1, maximum: 64 })),
      memory: Maybe,
      dirtyRate: Maybe,
      writesPerSecond: Type.Optional(Type.Number({ minimum: 1, maximum: 1_000 })),
      migrateEvery: Maybe,
    }),
  ),
  duration: Word,
  converge: Maybe,
  faults: Type.Optional(Type.Array(Type.Unknown(), { maxItems: FAULTS_MAX })),
  random: Type.Optional(
    closed({
      from: Maybe,
      until: Maybe,
      meanGap: Word,
      kinds: Type.Record(Type.String(), Type.Unknown()),
    }),
  ),
  limits: Type.Optional(
    closed({
      hosts: AtOnce,
      storages: AtOnce,
      fabrics: AtOnce,
      cables: AtOnce,
      coordinator: AtOnce,
      faults: AtOnce,
      gap: Maybe,
    }),
  ),
  hold: Type.Optional(closed({ rules: Maybe, objectives: Type.Optional(Type.Record(Type.String(), Type.Unknown())) })),
})
export type PlanEntry = Static<typeof PlanEntry>

const compiled = new Map<TSchema, ReturnType<typeof Compile>>()

/** Throws `bad-plan` at the first thing below `path` that does not fit. */
export function assertShape<T extends TSchema>(schema: T, value: unknown, path: Path, text: PlanText): Static<T> {
  const validator = compiled.get(schema) ?? Compile(schema)
  compiled.set(schema, validator)
  if (validator.Check(value)) return value as Static<T>
  const errors = validator.Errors(value)
  const within = (instancePath: string): Path => [
    ...path,
    ...instancePath
      .split('/')
      .slice(1)
      .map(part => part.replaceAll('~1', '/').replaceAll('~0', '~')),
  ]
  const unknown = errors.find(({ keyword }) => keyword === 'additionalProperties')
  if (unknown !== undefined) {
    const [name = ''] = (unknown.params as { additionalProperties?: readonly string[] }).additionalProperties ?? []
    const known = keysAt(schema, unknown.instancePath)
    throw text.refuse([...within(unknown.instancePath), name], `unknown key "${name}"`, `known: ${known}`, 'key')
  }
  const missing = errors.find(({ keyword }) => keyword === 'required')
  if (missing !== undefined) {
    const [name = ''] = (missing.params as { requiredProperties?: readonly string[] }).requiredProperties ?? []
    throw text.refuse(within(missing.instancePath), `"${name}" is missing`, 'chaos/rolling-kill.yaml is a whole one')
  }
  const [first] = errors
  const where = within(first?.instancePath ?? '')
  const what = where.length === 0 ? 'the plan' : `"${where.at(-1)}"`
  throw text.refuse(where, `${what} ${first?.message ?? 'does not fit'}`, 'see docs/OPERATIONS.md, "Chaos plans"')
}

function keysAt(schema: TSchema, instancePath: string): string {
  let at: unknown = schema
  for (const step of instancePath.split('/').slice(1)) {
    at = (at as { properties?: { [name: string]: unknown } } | undefined)?.properties?.[step]
  }
  return Object.keys((at as { properties?: object } | undefined)?.properties ?? {}).join(', ')
}
