// Which hosts the storages of a cluster that is down let in, by their states.

import { join } from 'node:path'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import type { ClusterFile } from './cluster-file.ts'
import { filesOf } from './directory.ts'

/** Of those storages whose state is there: host → the first that has it admitted. */
export async function hostsLetIn(directory: string, { storages }: ClusterFile): Promise<ReadonlyMap<string, string>> {
  const files = filesOf(directory)
  const found = new Map<string, string>()
  for (const { name: storage } of storages) {
    if (!(await files.list(storage)).includes('state.sqlite')) continue
    const store = openSqliteStore(join(directory, storage, 'state.sqlite'))
    for (const [key, marks] of store.entries('host/')) {
      const { admitted = 0, fenced = 0 } = marks as { admitted?: number; fenced?: number }
      const host = key.slice('host/'.length)
      if (admitted > fenced && !found.has(host)) found.set(host, storage)
    }
    store.close()
  }
  return found
}
