// An exclusive lock on a path that ends with the process, however that ends. Node has no flock: an open exclusive
// transaction of SQLite on the lock file holds the system's lock instead. Who holds it is written beside, for the error.

import { readFileSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { FileLock } from '../environment.ts'
import { errorCode, errorMessage, StellwerkError } from '../errors.ts'

const SQLITE_BUSY = 5
const HOLDER_SUFFIX = '.holder'

/** The lock files this process holds: opening one again and closing it would give the system's lock away. */
const held = new Set<string>()

export function lockFile(path: string, name: string): FileLock {
  if (held.has(path)) throw locked(path)
  const database = openDatabase(path)
  try {
    database.exec('BEGIN EXCLUSIVE')
    writeFileSync(path + HOLDER_SUFFIX, `${name} (pid ${process.pid})`)
  } catch (error) {
    database.close()
    const isBusy = typeof error === 'object' && error !== null && 'errcode' in error && error.errcode === SQLITE_BUSY
    throw isBusy ? locked(path) : failed(path, error)
  }
  held.add(path)
  let released = false
  return {
    release() {
      if (released) return
      released = true
      held.delete(path)
      database.close()
    },
  }
}

function openDatabase(path: string): DatabaseSync {
  try {
    return new DatabaseSync(path)
  } catch (error) {
    throw failed(path, error)
  }
}

function locked(path: string): StellwerkError {
  const holder = readHolder(path)
  return new StellwerkError('locked', `it is in use by ${holder ?? 'another process'}`, {
    where: path,
    hint: 'stop that process first',
  })
}

function readHolder(path: string): string | null {
  try {
    return readFileSync(path + HOLDER_SUFFIX, 'utf8')
  } catch (error) {
    // Not yet written, then.
    if (errorCode(error) === 'ENOENT') return null
    throw error
  }
}

function failed(path: string, cause: unknown): StellwerkError {
  return new StellwerkError('EACCES', `can't lock: ${errorMessage(cause)}`, {
    where: path,
    hint: 'it must be an empty file in a writable directory',
    cause,
  })
}
