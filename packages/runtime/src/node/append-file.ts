// A file that is only ever appended to, and at once: for what a simulation writes down, which has no time in which to wait.

import { closeSync, mkdirSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { errorCode, StellwerkError } from '../errors.ts'

export interface AppendFile {
  append(bytes: Uint8Array): void
  close(): void
  /** Takes it away again: what was to be in it is not. */
  discard(): void
}

/** A new file, and the directories it lies in. Throws if it is there. */
export function createAppendFile(path: string): AppendFile {
  mkdirSync(dirname(path), { recursive: true })
  const fd = openSync(path, 'wx', 0o644)
  return {
    append: bytes => {
      for (let at = 0; at < bytes.byteLength; ) at += writeSync(fd, bytes, at)
    },
    close: () => closeSync(fd),
    discard: () => {
      closeSync(fd)
      rmSync(path)
    },
  }
}

/** Throws `not-empty` unless the directory is missing or empty: what is written there must be all there is. */
export function demandEmptyDirectory(directory: string, hint: string): void {
  let names: string[]
  try {
    names = readdirSync(directory)
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return
    throw new StellwerkError(errorCode(error), `the directory can't be used: ${errorCode(error)}`, {
      where: directory,
      hint,
      cause: error,
    })
  }
  if (names.length === 0) return
  throw new StellwerkError('not-empty', `the directory is not empty: it has "${names[0]}"`, { where: directory, hint })
}
