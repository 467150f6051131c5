// Files that are only looked at, wherever they lie: opened for reading alone, so that what belongs to somebody else, or lies on
// a medium that can't be written to, can be read too; and nothing here can change them.

import { open, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { File, Files } from '../environment.ts'
import { errorCode, StellwerkError } from '../errors.ts'

/** What there is at a path. */
export type Found = 'file' | 'directory' | 'other' | 'nothing'

export interface ReadingFiles extends Files {
  /** What the path leads to, links followed. */
  look(path: string): Promise<Found>
  /** The one name of what the path leads to, links resolved. */
  real(path: string): Promise<string>
}

/** Paths are relative to `directory`, or absolute. */
export function createReadingFiles(directory: string): ReadingFiles {
  const absolute = (path: string): string => resolve(directory, path)
  return {
    open: async path => openForReading(absolute(path)),
    async read(path) {
      try {
        return await readFile(absolute(path))
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return null
        throw error
      }
    },
    async list(path) {
      try {
        return (await readdir(absolute(path))).sort()
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return []
        throw error
      }
    },
    async look(path) {
      try {
        const found = await stat(absolute(path))
        return found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'other'
      } catch (error) {
        if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return 'nothing'
        throw error
      }
    },
    real: path => realpath(absolute(path)),
    locate: absolute,
    writeAtomic: refuse,
    makeDirectory: refuse,
    handOver: refuse,
    seal: refuse,
    remove: refuse,
    lock: refuse,
  }
}

async function openForReading(path: string): Promise<File> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    if (errorCode(error) !== 'ENOENT') throw error
    throw new StellwerkError('missing-file', 'no such file', { where: path, cause: error })
  })
  return {
    size: async () => (await handle.stat()).size,
    async read(offset, length) {
      const buffer = Buffer.allocUnsafeSlow(length)
      let at = 0
      while (at < length) {
        const { bytesRead } = await handle.read(buffer, at, length - at, offset + at)
        if (bytesRead === 0) break
        at += bytesRead
      }
      return buffer.fill(0, at)
    },
    close: () => handle.close(),
    sync: refuse,
    write: refuse,
    punch: refuse,
    truncate: refuse,
  }
}

function refuse(): Promise<never> {
  return Promise.reject(new StellwerkError('read-only', 'these files are only looked at'))
}
