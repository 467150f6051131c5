// The durable Store: one SQLite table of keys, JSON values and their checksums, held exclusively. It is opened completely
// checked or not at all, and a file that is not one of ours is never changed.

import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import type { Json, Store, StoreChange } from '../environment.ts'
import { errorMessage, StellwerkError } from '../errors.ts'
import { storedText } from './memory-store.ts'

/** SQLite's application id of our files: "STLW". It stands in the file's header, so it can be read without SQLite. */
const APPLICATION_ID = 0x53544c57
const FORMAT_VERSION = 1
const HEADER_BYTES = 100
const MAGIC = 'SQLite format 3\0'
const APPLICATION_ID_OFFSET = 68
const FORMAT_VERSION_OFFSET = 60

// Primary result codes of SQLite (the lowest byte of `errcode`).
const SQLITE_BUSY = 5
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26

const CORRUPT_HINT = 'the file was changed or damaged outside of Stellwerk: restore it from a backup, or move it away'

export interface SqliteStore extends Store {
  /** Lets another process open the file. The store is of no use afterwards. */
  close(): void
}

/**
 * The files this process has open. SQLite's lock is a POSIX lock, and those go when *any* descriptor of the file is closed:
 * so nothing here may look into a file that is already open, and nobody else may read it as a plain file.
 */
const openFiles = new Set<string>()

/** Throws `locked`, `foreign-state`, `corrupt-state` or a system error's code. */
export function openSqliteStore(path: string): SqliteStore {
  const file = resolve(path)
  if (openFiles.has(file)) throw locked(file)
  const isNew = !existsSync(file) || statSync(file).size === 0
  if (!isNew) {
    checkHeader(file)
    // By a connection that can't write: even closing a writing one would move the log's contents into a damaged file.
    const reader = guarded(file, () => new DatabaseSync(file, { readOnly: true }))
    try {
      guarded(file, () => checkContents(file, reader))
    } finally {
      reader.close()
    }
  }
  const database = guarded(file, () => new DatabaseSync(file))
  try {
    guarded(file, () => prepare(database, isNew))
    const store = createStore(file, database)
    openFiles.add(file)
    return store
  } catch (error) {
    database.close()
    throw error
  }
}

function checkHeader(file: string): void {
  const header = Buffer.alloc(HEADER_BYTES)
  const fd = openSync(file, 'r')
  try {
    readSync(fd, header, 0, HEADER_BYTES, 0)
  } finally {
    closeSync(fd)
  }
  const isOurs =
    header.toString('latin1', 0, MAGIC.length) === MAGIC &&
    header.readUInt32BE(APPLICATION_ID_OFFSET) === APPLICATION_ID
  if (!isOurs) {
    throw new StellwerkError('foreign-state', 'the state file is not a Stellwerk state', {
      where: file,
      hint: 'move the file away, or name another directory',
    })
  }
  const version = header.readUInt32BE(FORMAT_VERSION_OFFSET)
  if (version !== FORMAT_VERSION) {
    throw new StellwerkError(
      'foreign-state',
      `the state file has format ${version}, this program knows ${FORMAT_VERSION}`,
      {
        where: file,
        hint: 'use the version of Stellwerk that wrote it',
      },
    )
  }
}

function checkContents(file: string, database: DatabaseSync): void {
  const result = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
  if (result !== 'ok') {
    throw new StellwerkError('corrupt-state', `the state file is damaged: ${result}`, {
      where: file,
      hint: CORRUPT_HINT,
    })
  }
  for (const row of database.prepare('SELECT key, value, crc FROM entries').iterate()) parseRow(file, row)
}

function prepare(database: DatabaseSync, isNew: boolean): void {
  database.exec('PRAGMA locking_mode = EXCLUSIVE')
  if (isNew) {
    // One transaction, not yet in the write-ahead log: from its first byte on, the file is known as ours.
    database.exec(`
      BEGIN EXCLUSIVE;
      PRAGMA application_id = ${APPLICATION_ID};
      PRAGMA user_version = ${FORMAT_VERSION};
      CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      COMMIT`)
  }
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('PRAGMA synchronous = FULL')
  // Takes the lock now; in this locking mode it is kept until the file is closed or the process ends.
  database.exec('BEGIN EXCLUSIVE; COMMIT')
}

function createStore(file: string, database: DatabaseSync): SqliteStore {
  const selectOne = database.prepare('SELECT key, value, crc FROM entries WHERE key = ?')
  const selectFrom = database.prepare('SELECT key, value, crc FROM entries WHERE key >= ? ORDER BY key')
  const upsert = database.prepare(
    'INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, crc = excluded.crc',
  )
  const remove = database.prepare('DELETE FROM entries WHERE key = ?')
  let failure: StellwerkError | null = null

  const apply = (changes: readonly StoreChange[]) => {
    for (const change of changes) {
      if ('put' in change) {
        const text = storedText(change.put, change.value)
        upsert.run(change.put, text, checksum(change.put, text))
      } else remove.run(change.delete)
    }
  }

  return {
    get(key) {
      const row = guarded(file, () => selectOne.get(key))
      return row === undefined ? undefined : parseRow(file, row)[1]
    },

    entries(prefix) {
      return guarded(file, () => {
        const found: (readonly [string, Json])[] = []
        // SQLite compares bytes: all keys with the prefix follow each other. Sorting again, because strings in
        // JavaScript compare by UTF-16 units, and every store must give the same order.
        for (const row of selectFrom.iterate(prefix)) {
          if (!String(row['key']).startsWith(prefix)) break
          found.push(parseRow(file, row))
        }
        return found.sort(([a], [b]) => (a < b ? -1 : 1))
      })
    },

    commit(changes) {
      if (failure !== null) throw failure
      try {
        guarded(file, () => {
          database.exec('BEGIN IMMEDIATE')
          apply(changes)
          database.exec('COMMIT')
        })
      } catch (error) {
        try {
          if (database.isTransaction) database.exec('ROLLBACK')
        } finally {
          // After a failed write or sync nobody knows what the disk holds: going on could lose what was answered for.
          if (error instanceof StellwerkError && error.code === 'EIO') failure = error
        }
        throw error
      }
    },

    close() {
      database.close()
      openFiles.delete(file)
    },
  }
}

function checksum(key: string, text: string): number {
  return crc32(text, crc32(`${key}\0`))
}

function parseRow(file: string, row: Record<string, unknown>): readonly [string, Json] {
  const { key, value, crc } = row
  if (typeof key === 'string' && typeof value === 'string' && checksum(key, value) === crc) {
    return [key, JSON.parse(value) as Json]
  }
  throw new StellwerkError('corrupt-state', `the value of ${key} does not match its checksum`, {
    where: file,
    hint: CORRUPT_HINT,
  })
}

/** Runs `f` and gives SQLite's errors codes of ours. */
function guarded<T>(file: string, f: () => T): T {
  try {
    return f()
  } catch (cause) {
    const errcode = sqliteCode(cause)
    if (errcode === null) throw cause
    const details = { where: file, cause }
    const message = errorMessage(cause)
    switch (errcode & 0xff) {
      case SQLITE_BUSY:
        throw locked(file, cause)
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        throw new StellwerkError('corrupt-state', `the state file is damaged: ${message}`, {
          ...details,
          hint: CORRUPT_HINT,
        })
      case SQLITE_FULL:
        throw new StellwerkError('ENOSPC', 'no space is left for the state file', {
          ...details,
          retryable: true,
          hint: 'free some',
        })
      case SQLITE_IOERR:
        throw new StellwerkError('EIO', `the state file can't be read or written: ${message}`, details)
      case SQLITE_CANTOPEN:
        throw new StellwerkError('EACCES', `the state file can't be opened: ${message}`, details)
      default:
        throw new StellwerkError('state-failed', `the state file: ${message}`, details)
    }
  }
}

function sqliteCode(error: unknown): number | null {
  if (typeof error !== 'object' || error === null || !('code' in error) || error.code !== 'ERR_SQLITE_ERROR')
    return null
  return 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : 0
}

function locked(file: string, cause?: unknown): StellwerkError {
  return new StellwerkError('locked', 'the state file is already open, most likely in another process', {
    where: file,
    hint: 'stop that one first, or name another directory',
    cause,
  })
}
