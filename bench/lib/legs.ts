// Two LUNs, each on a storage of its own, as the legs of a volume: memory-backed nbdkit, or the embedded subsystem.

import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import type { BenchLun } from '../servers/lun-paths.ts'
import type { StorageServerConfig } from '../servers/storage.ts'
import type { Servers } from './processes.ts'

export type BackingName = 'memory' | 'embedded'

export interface Leg {
  /** For the volume. */
  readonly lun: BenchLun
  /** For tools, on the same storage. */
  readonly plain: { readonly socket: string; readonly exportName: string; readonly offsetBytes: number }
  /** The embedded subsystem; null: nobody to order anything of. */
  readonly storage: ChildProcess | null
}

export interface Legs {
  readonly name: BackingName
  readonly legs: readonly [Leg, Leg]
}

interface Sizes {
  readonly volumeBytes: number
  readonly plainBytes: number
  /** Tools that know no offsets need a LUN of their own: with nbdkit, a server of the same kind beside the volume's. */
  readonly plainApart?: boolean
}

export async function startLegs(servers: Servers, directory: string, name: BackingName, sizes: Sizes): Promise<Legs> {
  const start = name === 'memory' ? startMemory : startEmbedded
  return {
    name,
    legs: [await start(servers, directory, 'san-a', sizes), await start(servers, directory, 'san-b', sizes)],
  }
}

async function startMemory(servers: Servers, directory: string, storage: string, sizes: Sizes): Promise<Leg> {
  const { volumeBytes, plainBytes, plainApart = false } = sizes
  const socket = join(directory, `${storage}.sock`)
  const lun = { storage, name: '', socket, controlSocket: null }
  if (!plainApart) {
    await startMemoryLun(servers, socket, volumeBytes + plainBytes)
    return { lun, plain: { socket, exportName: '', offsetBytes: volumeBytes }, storage: null }
  }
  const plain = join(directory, `${storage}-plain.sock`)
  await startMemoryLun(servers, socket, volumeBytes)
  await startMemoryLun(servers, plain, plainBytes)
  return { lun, plain: { socket: plain, exportName: '', offsetBytes: 0 }, storage: null }
}

async function startMemoryLun(servers: Servers, socket: string, sizeBytes: number): Promise<void> {
  await servers.start('nbdkit', ['-f', '-U', socket, 'memory', `${sizeBytes}`], socket)
}

async function startEmbedded(servers: Servers, directory: string, storage: string, sizes: Sizes): Promise<Leg> {
  const socket = join(directory, `${storage}.sock`)
  const controlSocket = join(directory, `${storage}-control.sock`)
  const config: StorageServerConfig = {
    name: storage,
    directory,
    socket,
    controlSocket,
    luns: [
      { lun: 'volume', sizeBytes: sizes.volumeBytes, open: false },
      { lun: 'plain', sizeBytes: sizes.plainBytes, open: true },
    ],
  }
  const server = await servers.serve('storage.ts', config, socket)
  const lun = { storage, name: 'volume', socket, controlSocket }
  return { lun, plain: { socket, exportName: 'plain', offsetBytes: 0 }, storage: server }
}
