// Is the coordinator's state there at all? A cluster whose storages have served is not new: a coordinator that began anew
// among them would know of no VM, no volume and no epoch, and its empty state would stand in the way of a restore.

import { join } from 'node:path'
import type { Files, StoreChange } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import type { ClusterFile } from './cluster-file.ts'
import { filesOf } from './directory.ts'

const STATE_FILE = 'state.sqlite'
/** A state that is being made, in the same directory. */
const ASIDE_FILE = 'state.new.sqlite'
const LOG_SUFFIX = '-wal'
/** Of the files that SQLite has beside its own. */
const SUFFIXES = [LOG_SUFFIX, '-shm', '-journal']
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

/**
 * Made aside, and given its name once it is whole: a state of which nothing was committed yet, because this process was
 * killed, would pass for one.
 */
export async function makeState(directory: string, process: string, changes: readonly StoreChange[]): Promise<void> {
  const files = filesOf(directory)
  await files.makeDirectory(process)
  const removeAside = async () => {
    for (const suffix of ['', ...SUFFIXES]) await files.remove(`${process}/${ASIDE_FILE}${suffix}`)
  }
  // What a process that was killed at this has left.
  await removeAside()
  const aside = join(directory, process, ASIDE_FILE)
  const store = openSqliteStore(aside)
  try {
    store.commit(changes)
  } finally {
    store.close()
  }
  // SQLite takes its log away once all of it is in the file, durably.
  const whole = await files.read(`${process}/${ASIDE_FILE}`)
  if (whole === null || (await files.list(process)).includes(`${ASIDE_FILE}${LOG_SUFFIX}`)) {
    throw new StellwerkError('EIO', 'the new state was not written whole', {
      where: aside,
      hint: 'see whether the disk is full or fails, and say it again',
    })
  }
  // The lost state's: SQLite would play its log into whatever file has the name.
  for (const suffix of SUFFIXES) await files.remove(`${process}/${STATE_FILE}${suffix}`)
  await files.writeAtomic(`${process}/${STATE_FILE}`, whole)
  await removeAside()
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
