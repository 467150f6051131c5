// Is the coordinator's state there at all? A cluster whose storages have served is not new: a coordinator that began anew
// among them would know of no VM, no volume and no epoch, and its empty state would stand in the way of a restore.

import { join } from 'node:path'
import type { Files } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import type { ClusterFile } from './cluster-file.ts'
import { filesOf } from './directory.ts'

const STATE_FILE = 'state.sqlite'
const LUN_KEY = 'lun/'

/** Nothing, and an empty file, are no state. */
export async function hasState(files: Files, process: string): Promise<boolean> {
  if (!(await files.list(process)).includes(STATE_FILE)) return false
  const file = await files.open(`${process}/${STATE_FILE}`)
  try {
    return (await file.size()) > 0
  } finally {
    await file.close()
  }
}

/** Throws `lost-state` with the way to a new one; changes nothing. */
export async function refuseLostCoordinator(directory: string, cluster: ClusterFile): Promise<void> {
  const files = filesOf(directory)
  if (await hasState(files, 'coordinator')) return
  for (const { name } of cluster.storages) {
    if (!(await hasState(files, name))) continue
    throw new StellwerkError(
      'lost-state',
      `the coordinator's state is gone, but ${name} has served this cluster; nothing was started`,
      {
        where: join(directory, 'coordinator', STATE_FILE),
        hint: `put it back, or make it anew: ${restoreHint(directory, name)}`,
      },
    )
  }
}

/** With a volume that can be named, where there is one. */
function restoreHint(directory: string, storage: string): string {
  const store = openSqliteStore(join(directory, storage, STATE_FILE))
  try {
    const volume = store.entries(LUN_KEY)[0]?.[0].slice(LUN_KEY.length) ?? 'VOLUME'
    return `npx stellwerk cluster restore ${volume}`
  } finally {
    store.close()
  }
}

/** Of a coordinator that stepped down because hosts are ahead of it. */
export function olderState(directory: string): StellwerkError {
  return new StellwerkError('stale-state', "the coordinator's state is older than the cluster: it decides nothing", {
    where: join(directory, 'coordinator'),
    hint:
      'put the newer state back; or move that directory away, and say: npx stellwerk cluster restore VOLUME ' +
      '(what it saw is in its log)',
  })
}
