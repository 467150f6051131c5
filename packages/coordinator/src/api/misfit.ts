// Says in one line how a value from outside does not fit its schema, naming the field: what a person needs to mend it.

import type { TSchema } from '@stellwerk/protocol/schema/typebox.js'
import { Compile } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** Null: it fits. */
export type Check = (value: unknown) => string | null

/** Compiled once, at the first use. */
export function checkOf(schema: TSchema): Check {
  let compiled: ReturnType<typeof Compile> | null = null
  return value => {
    compiled ??= Compile(schema)
    if (compiled.Check(value)) return null
    const errors = compiled.Errors(value)
    // The last word of a union or an object is its summary; the first is the nearest to the mistake.
    const unknown = errors.find(error => error.keyword === 'additionalProperties')
    if (unknown !== undefined) {
      const names = (unknown.params as { additionalProperties?: readonly string[] }).additionalProperties ?? []
      return `unknown key ${names.map(name => `"${pathOf(unknown.instancePath, name)}"`).join(', ')}`
    }
    const missing = errors.find(error => error.keyword === 'required')
    if (missing !== undefined) {
      const names = (missing.params as { requiredProperties?: readonly string[] }).requiredProperties ?? []
      return `missing ${names.map(name => `"${pathOf(missing.instancePath, name)}"`).join(', ')}`
    }
    const first = errors[0]
    if (first === undefined) return 'it does not fit its schema'
    const where = pathOf(first.instancePath, '')
    // Of a union of fixed words every one complains: together they are what is allowed.
    const allowed = errors
      .filter(error => error.keyword === 'const' && error.instancePath === first.instancePath)
      .map(error => JSON.stringify((error.params as { allowedValue?: unknown }).allowedValue))
    if (allowed.length > 0) return `"${where}" must be ${allowed.length === 1 ? '' : 'one of '}${allowed.join(', ')}`
    return `"${where}" ${first.message}`
  }
}

function pathOf(instancePath: string, name: string): string {
  const parts = instancePath.split('/').filter(part => part !== '')
  if (name !== '') parts.push(name)
  return parts.length === 0 ? 'the value' : parts.join('.')
}

/** Throws `code`, naming `where`. */
export function assertFits(check: Check, value: unknown, code: string, where: string, hint: string): void {
  const misfit = check(value)
  if (misfit !== null) throw new StellwerkError(code, misfit, { where, hint })
}
