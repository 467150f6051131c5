// A directory that lasts as long as the work in it: made among the system's temporary files, for its owner's eyes only.

import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export function makeScratchDirectory(prefix: string): Promise<string> {
  return mkdtemp(join(tmpdir(), prefix))
}

/** With everything in it. Not there any more is well too. */
export function removeScratchDirectory(directory: string): Promise<void> {
  return rm(directory, { recursive: true, force: true })
}

/** Those that are there, of whomever. */
export async function scratchDirectories(prefix: string): Promise<string[]> {
  const names = await readdir(tmpdir())
  return names.filter(name => name.startsWith(prefix)).map(name => join(tmpdir(), name))
}
