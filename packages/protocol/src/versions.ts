// The protocol's versions, newest last, and how two processes agree on one. `schema-hashes.json` pins the hash of all
// schemas for each version: versions.test.ts fails when they change without a new entry here.
//
// To change a message: add an entry (or change the last one while it is unreleased), then
//   node packages/protocol/tools/schema-hash.ts --write
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface Version {
  readonly version: number
  /** A released version's schemas never change. */
  readonly released: boolean
  readonly changes: string
}

export const VERSION_HISTORY: readonly Version[] = [{ version: 1, released: false, changes: 'the first protocol' }]

export const CURRENT_VERSION = 1
/** The oldest version this code still speaks. */
export const MINIMUM_VERSION = 1

export interface VersionRange {
  readonly current: number
  readonly minimum: number
}

export const OUR_VERSIONS: VersionRange = { current: CURRENT_VERSION, minimum: MINIMUM_VERSION }

/** The highest version both speak; throws `version-mismatch`. */
export function negotiate(ours: VersionRange, theirs: VersionRange): number {
  const version = Math.min(ours.current, theirs.current)
  if (version >= ours.minimum && version >= theirs.minimum) return version
  const older = ours.current < theirs.current ? 'this process' : 'the other process'
  throw new StellwerkError(
    'version-mismatch',
    `protocol ${ours.minimum} to ${ours.current} here, ${theirs.minimum} to ${theirs.current} there`,
    { hint: `upgrade ${older}` },
  )
}
