// The guest programs that come with an agent, and what can be set on them.

import { EMBEDDED_GUESTS } from './modules/embedded.ts'

export interface CatalogGuest {
  readonly module: Uint8Array
  /** Names of its parameters, all of them numbers from 0 to PARAMETER_MAX. */
  readonly parameters: readonly string[]
}

/** More a second, or MiB more, than any machine does. From 1e21 on a number has an exponent, which guests don't read. */
export const PARAMETER_MAX = 1_000_000

const PARAMETERS: { readonly [name: string]: readonly string[] } = {
  echo: [],
  ledger: ['dirtyMiBPerSecond', 'writesPerSecond', 'workingSetMiB', 'readBacksPerSecond'],
}

export const CATALOG_NAMES: readonly string[] = Object.keys(PARAMETERS)

export function catalogGuest(name: string): CatalogGuest | null {
  // `constructor` is no guest.
  const text = Object.hasOwn(EMBEDDED_GUESTS, name) ? EMBEDDED_GUESTS[name] : undefined
  const parameters = Object.hasOwn(PARAMETERS, name) ? PARAMETERS[name] : undefined
  if (text === undefined || parameters === undefined) return null
  return { module: Buffer.from(text, 'base64'), parameters }
}
