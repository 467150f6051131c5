// Notes in the store of the LUN files that are being made or removed. A file may only ever be removed on the word of such
// a note: a file that nothing here knows of is a LUN whose record was lost, and never rubbish.

import type { Json, Store, StoreChange } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const PREFIX = 'files/'
const LUN_FILE = /^(.+)\.(data|map)$/

/** Committed before the first file is made, or together with the end of the LUN's record. */
export function noteFiles(id: string, why: 'making' | 'removing'): StoreChange {
  return { put: PREFIX + id, value: why }
}

/** Committed together with the LUN's record, or when the files are gone. */
export function settleFiles(id: string): StoreChange {
  return { delete: PREFIX + id }
}

/** Ids whose files belong to no LUN, by a note that says so. */
export function unsettledFiles(store: Store): Set<string> {
  return new Set(store.entries(PREFIX).map(([key]: readonly [string, Json]) => key.slice(PREFIX.length)))
}

/** Throws `lost-state` where there is a LUN's file that the state knows nothing of. */
export function checkAllKnown(names: readonly string[], known: (id: string) => boolean, directory: string): void {
  const unknown = names.filter(name => {
    const id = LUN_FILE.exec(name)?.[1]
    return id !== undefined && !known(id)
  })
  if (unknown.length === 0) return
  const more = unknown.length === 1 ? '' : ` and ${unknown.length - 1} more`
  throw new StellwerkError(
    'lost-state',
    `there are LUN files of which the storage's state knows nothing: ${unknown[0]}${more}; nothing was changed`,
    {
      where: directory,
      hint: 'put back the state (state.sqlite) that belongs to them, or move the files away if their LUNs are not wanted',
    },
  )
}
