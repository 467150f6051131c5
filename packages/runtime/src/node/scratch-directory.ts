// A directory that lasts as long as the work in it: made among the system's temporary files, for its owner's eyes only.

import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { errorCode } from '../errors.ts'

export function makeScratchDirectory(prefix: string): Promise<string> {
  return mkdtemp(join(tmpdir(), prefix))
}

/** With everything in it. Not there any more is well too. */
export function removeScratchDirectory(directory: string): Promise<void> {
  return rm(directory, { recursive: true, force: true })
}

/** Those that are there, of this user: what others have put there is not believed. */
export async function scratchDirectories(prefix: string): Promise<string[]> {
  const paths = (await readdir(tmpdir())).filter(name => name.startsWith(prefix)).map(name => join(tmpdir(), name))
  const ours = await Promise.all(paths.map(isOurs))
  return paths.filter((_, i) => ours[i])
}

async function isOurs(path: string): Promise<boolean> {
  try {
    const stats = await lstat(path)
    return stats.isDirectory() && stats.uid === process.getuid?.()
  } catch (error) {
    // Gone in between.
    if (errorCode(error) === 'ENOENT') return false
    throw error
  }
}
