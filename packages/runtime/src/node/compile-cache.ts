// Node's compile cache, kept beside the dependencies: sources are stripped of their types and compiled once for all processes
// of a machine, not once a process. Where it can't be kept, everything works without.

import { enableCompileCache, flushCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

const DIRECTORY = new URL('../../../../node_modules/.cache/stellwerk-compile', import.meta.url)

/** To be called before the sources it is meant for are imported. */
export function useCompileCache(): void {
  enableCompileCache(fileURLToPath(DIRECTORY))
}

/** Keeps what was compiled so far; a process that is killed has no end at which Node would do it. */
export function keepCompileCache(): void {
  flushCompileCache()
}
