// The Files of a simulated process: paths, handles and locks over its directory on the host's simulated disk.

import type { File, FileLock, Files } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { normalPath, type SimDirectory, type SimDisk } from './disk.ts'
import type { SimProcess } from './process.ts'
import { SimFile } from './sim-file.ts'
import { PAGE_BYTES, SparseFile } from './sparse-file.ts'

export function createFiles(process: SimProcess): Files {
  const { disk } = process.host
  const { directory, prefix } = disk.root(process)
  const below = (path: string): string => pathBelow(prefix, path)
  return {
    open: (path, options) => open(process, disk, directory, below(path), options?.create === true),
    read(path) {
      const at = below(path)
      return disk.run(process, {
        operation: 'read',
        path: at,
        length: Number.MAX_SAFE_INTEGER,
        apply: () => {
          const file = directory.files.get(at)
          return file === undefined ? null : file.read(0, file.size)
        },
      })
    },
    writeAtomic: (path, data) => writeAtomic(process, disk, directory, below(path), data),
    locate: path => `${process.directory ?? `/${process.name}`}/${normalPath(path)}`,
    list(path) {
      const at = below(path)
      return disk.run(process, { operation: 'list', path: at, apply: () => list(directory, at) })
    },
    makeDirectory(path) {
      const at = below(path)
      return disk.run(process, {
        operation: 'open',
        path: at,
        durable: true,
        apply: () => {
          const parts = at.split('/')
          parts.forEach((_, index) => void directory.directories.add(parts.slice(0, index + 1).join('/')))
        },
      })
    },
    // Nobody but us is in there.
    handOver: async () => undefined,
    seal: async () => undefined,
    remove(path) {
      const at = below(path)
      return disk.run(process, {
        operation: 'open',
        path: at,
        durable: true,
        apply: () => {
          for (const known of [...directory.files.keys()]) if (isBelow(known, at)) directory.files.delete(known)
          for (const known of [...directory.directories]) {
            if (known !== '' && isBelow(known, at)) directory.directories.delete(known)
          }
        },
      })
    },
    lock: path => lock(process, disk, directory, below(path)),
  }
}

function pathBelow(prefix: string, path: string): string {
  const at = normalPath(path)
  return prefix === '' ? at : at === '' ? prefix : `${prefix}/${at}`
}

function missing(path: string, process: SimProcess): StellwerkError {
  return new StellwerkError('missing-file', `no such file: ${path}`, { where: process.name })
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')))
}

function needParent(directory: SimDirectory, path: string, process: SimProcess): void {
  const parent = parentOf(path)
  if (!directory.directories.has(parent)) throw missing(parent, process)
}

/** The path itself, or something in that directory. */
function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`)
}

function list(directory: SimDirectory, path: string): string[] {
  const prefix = path === '' ? '' : `${path}/`
  const names = new Set<string>()
  for (const known of [...directory.files.keys(), ...directory.directories]) {
    if (known !== '' && known.startsWith(prefix) && known !== path)
      names.add(known.slice(prefix.length).split('/')[0] ?? '')
  }
  return [...names].sort()
}

function open(
  process: SimProcess,
  disk: SimDisk,
  directory: SimDirectory,
  path: string,
  create: boolean,
): Promise<File> {
  return disk.run(process, {
    operation: 'open',
    path,
    apply: () => {
      let file = directory.files.get(path)
      if (file === undefined) {
        if (!create) throw missing(path, process)
        needParent(directory, path, process)
        file = new SparseFile()
        directory.files.set(path, file)
      }
      return new SimFile(process, disk, path, file)
    },
  })
}

function writeAtomic(
  process: SimProcess,
  disk: SimDisk,
  directory: SimDirectory,
  path: string,
  data: Uint8Array,
): Promise<void> {
  // The caller may change its buffer once the call returns a promise it ignores: the new file is written from a copy.
  const copy = data.slice()
  const replace = () => {
    const file = new SparseFile()
    file.write(0, [copy])
    file.makeDurable(0, copy.byteLength)
    directory.files.set(path, file)
  }
  return disk.run(process, {
    operation: 'replace',
    path,
    length: copy.byteLength,
    apply: () => {
      needParent(directory, path, process)
      disk.reserve(Math.ceil(copy.byteLength / PAGE_BYTES) * PAGE_BYTES, path)
      replace()
    },
    ignored: () => undefined,
    interrupted: random => {
      if (directory.directories.has(parentOf(path)) && random.chance(0.5)) replace()
    },
  })
}

function lock(process: SimProcess, disk: SimDisk, directory: SimDirectory, path: string): Promise<FileLock> {
  return disk.run(process, {
    operation: 'open',
    path,
    apply: () => {
      const owner = directory.locks.get(path)
      if (owner?.alive === true) {
        throw new StellwerkError('locked', `${path} is locked by process ${owner.pid}`, {
          where: process.name,
          hint: 'end the other process first',
        })
      }
      directory.locks.set(path, process)
      let released = false
      return {
        release: () => {
          // Once: the same process may have taken it anew since.
          if (!released && directory.locks.get(path) === process) directory.locks.delete(path)
          released = true
        },
      }
    },
  })
}
