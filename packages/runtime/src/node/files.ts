// The files of one process: everything below one directory, by paths relative to it.

import { mkdir, open, readdir, readFile, rename, rm, rmdir } from 'node:fs/promises'
import { dirname, resolve, sep } from 'node:path'
import type { Files, Logger } from '../environment.ts'
import { errorCode, StellwerkError } from '../errors.ts'
import type { DiskFaults } from './faults/disk-faults.ts'
import { lockFile } from './file-lock.ts'
import { NodeFile } from './node-file.ts'
import { handOver, seal } from './own-user.ts'
import { Puncher } from './puncher.ts'
import { quickReader } from './quick-reader.ts'
import { RawFile } from './raw-file.ts'

/** A file that `writeAtomic` had not finished when the process died; `list` does not show it. */
const ASIDE_SUFFIX = '.aside'

/** `faults`: of a process that was started with the switch for them. */
export function createFiles(directory: string, name: string, log: Logger, faults: DiskFaults | null = null): Files {
  const root = resolve(directory)
  const puncher = new Puncher(log, root)
  let asides = 0

  const absolute = (path: string): string => {
    const full = resolve(root, path)
    // The root of all ends with the separator itself.
    if (full === root || full.startsWith(root.endsWith(sep) ? root : root + sep)) return full
    throw new StellwerkError('bad-path', 'the path leads out of the directory', { where: path })
  }

  return {
    async open(path, options) {
      const full = absolute(path)
      const create = options?.create === true
      await puncher.predecessorGone()
      const file = await orMissing(
        path,
        RawFile.open(full, { create, dataSync: false, ...(options?.worker === true ? { quick: quickReader() } : {}) }),
      )
      try {
        if (create) await syncDirectory(dirname(full))
        const opened = new NodeFile(full, file, await RawFile.open(full, { create: false, dataSync: true }), puncher)
        return faults === null ? opened : faults.around(opened, path)
      } catch (error) {
        await file.close()
        throw error
      }
    },

    async read(path) {
      try {
        return await readFile(absolute(path))
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return null
        throw error
      }
    },

    async writeAtomic(path, data) {
      const full = absolute(path)
      const aside = `${full}.${++asides}${ASIDE_SUFFIX}`
      const handle = await orMissing(path, open(aside, 'w', 0o600))
      try {
        await handle.writeFile(data)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(aside, full)
      await syncDirectory(dirname(full))
    },

    async list(path) {
      try {
        const names = await readdir(absolute(path))
        return names.filter(entry => !entry.endsWith(ASIDE_SUFFIX)).sort()
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return []
        throw error
      }
    },

    async makeDirectory(path) {
      const full = absolute(path)
      const first = await mkdir(full, { recursive: true })
      if (first === undefined) return
      // From the deepest new one up to what was there before.
      for (let made = full; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made))
    },

    locate: path => absolute(path),

    handOver: path => handOver(absolute(path)),
    seal: path => seal(absolute(path)),

    async remove(path) {
      const full = absolute(path)
      await rm(full, { force: true }).catch(async (error: unknown) => {
        if (errorCode(error) !== 'ERR_FS_EISDIR') throw error
        await rmdir(full)
      })
      await syncDirectory(dirname(full)).catch(error => {
        // Without its directory there was nothing to remove.
        if (errorCode(error) !== 'ENOENT') throw error
      })
    },

    lock: async path => lockFile(absolute(path), name),
  }
}

async function orMissing<T>(path: string, opening: Promise<T>): Promise<T> {
  try {
    return await opening
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error
    throw new StellwerkError('missing-file', 'there is no such file or directory', { where: path, cause: error })
  }
}

/** Makes the names in a directory durable. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
