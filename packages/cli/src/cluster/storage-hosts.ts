// Which hosts the storages of a cluster that is down let in, by their states.

import { join } from 'node:path'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import { recoverAdmission } from '@stellwerk/storage/admission/recover.ts'
import type { ClusterFile } from './cluster-file.ts'
import { filesOf } from './directory.ts'

/** Of those storages whose state is there: host → the first that has it admitted. Throws `corrupt-state`. */
export async function hostsLetIn(directory: string, { storages }: ClusterFile): Promise<ReadonlyMap<string, string>> {
  const files = filesOf(directory)
  const found = new Map<string, string>()
  for (const { name: storage } of storages) {
    if (!(await files.list(storage)).includes('state.sqlite')) continue
    const store = openSqliteStore(join(directory, storage, 'state.sqlite'))
    try {
      for (const [host, { admitted, fenced }] of recoverAdmission(store).hosts) {
        if (admitted > fenced && !found.has(host)) found.set(host, storage)
      }
    } finally {
      store.close()
    }
  }
  return found
}
