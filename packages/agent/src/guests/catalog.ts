// The guest programs that come with an agent, and what can be set on them.

import { EMBEDDED_GUESTS } from './modules/embedded.ts'

export interface CatalogGuest {
  readonly module: Uint8Array
  /** Names of its parameters, all of them numbers that are not negative. */
  readonly parameters: readonly string[]
}

const PARAMETERS: { readonly [name: string]: readonly string[] } = {
  echo: [],
  ledger: ['dirtyMiBPerSecond', 'writesPerSecond', 'workingSetMiB', 'readBacksPerSecond'],
}

export const CATALOG_NAMES: readonly string[] = Object.keys(PARAMETERS)

export function catalogGuest(name: string): CatalogGuest | null {
  const text = EMBEDDED_GUESTS[name]
  const parameters = PARAMETERS[name]
  if (text === undefined || parameters === undefined) return null
  return { module: Buffer.from(text, 'base64'), parameters }
}
