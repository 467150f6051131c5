// What a disk asks its volume's owner on behalf of writers: extents for what has none, and extents of its own for what it shares.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { Claim } from '../owner/holding.ts'
import type { ExtentDepartures } from './extent-departures.ts'
import { ExtentGrants } from './extent-grants.ts'
import type { ExtentMap } from './extent-map.ts'
import { ExtentUnshares } from './extent-unshares.ts'
import type { OwnerAsker } from './owner-asker.ts'

export interface AskingDisk {
  readonly map: ExtentMap
  readonly departures: ExtentDepartures
  readonly asker: OwnerAsker
  readonly holding: () => Claim & { readonly volume: string }
  /** Resolves when all I/O that began before is done. */
  readonly grace: () => Promise<void>
  /** Resolves when what an owner of that generation gave out may be used. */
  readonly reached: (generation: number) => Promise<void>
  /** The disk is not ours any more. */
  readonly failed: (error: unknown) => void
}

/** One extent that cannot be copied is an error to its writer, not the end of the disk. */
const PASSING = 'extent-unreadable'

export function extentQuestions({ map, departures, asker, holding, grace, reached, failed }: AskingDisk) {
  /** A leg that misses what was done in that generation must not be read from any more. */
  const usable = async <T extends { readonly generation: number }>(asked: Promise<T>, passing = ''): Promise<T> => {
    try {
      const grant = await asked
      await reached(grant.generation)
      return grant
    } catch (error) {
      if (errorCode(error) !== passing) failed(error)
      throw error
    }
  }
  const grants = new ExtentGrants(map, question =>
    usable(asker.ask('volume.allocate', () => ({ ...holding(), ...question }))),
  )
  const unshares = new ExtentUnshares(map, departures, grace, (question, attempt) =>
    usable(
      asker.ask('volume.unshare', () => ({ ...holding(), ...question() }), PASSING, attempt),
      PASSING,
    ),
  )
  return { grants, unshares }
}
