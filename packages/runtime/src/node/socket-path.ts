// Unix sockets whose path is longer than an address of one holds (sun_path, unix(7)). Their directory is opened, and they are
// reached by way of it: /proc/self/fd/N/NAME is short, and the same place.

import { closeSync, constants, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'

/** Without the zero at its end; what is longer would be cut off silently. */
export const SOCKET_PATH_MAX_BYTES = 107
/** What is left for the name by way of the directory. */
export const SOCKET_NAME_MAX_BYTES = SOCKET_PATH_MAX_BYTES - '/proc/self/fd/1234567/'.length

export interface SocketPath {
  /** For the system. It is that place until `release`. */
  readonly path: string
  release(): void
}

/** Throws what opening the directory throws. */
export function reachSocket(path: string): SocketPath {
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX_BYTES) return { path, release: () => undefined }
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
  let open = true
  return {
    path: `/proc/self/fd/${directory}/${basename(path)}`,
    release: () => {
      if (open) closeSync(directory)
      open = false
    },
  }
}
