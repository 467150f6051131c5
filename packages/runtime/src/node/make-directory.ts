// A directory and those above it, made one by one: `mkdir` with `recursive` asks for ever where a file system such as /proc
// has no room for directories.

import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { errorCode, StellwerkError } from '../errors.ts'

/** Throws the system's code, naming the directory. */
export function makeDirectorySync(path: string): void {
  if (existsSync(path)) return
  const above = dirname(path)
  if (above !== path) makeDirectorySync(above)
  try {
    mkdirSync(path)
  } catch (error) {
    const code = errorCode(error)
    // Another process was faster.
    if (code === 'EEXIST') return
    throw new StellwerkError(code, `the directory can't be made there: ${code}`, {
      where: path,
      hint: 'name another directory, or see who may write there',
      cause: error,
    })
  }
}
