// The Files of a simulated process: paths, handles and locks over its directory on the host's simulated disk.

import { assert } from '../assert.ts'
import type { File, FileLock, Files } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { normalPath, type SimDirectory, type SimDisk } from './disk.ts'
import type { SimProcess } from './process.ts'
import { PAGE_BYTES, SECTOR_BYTES, SparseFile } from './sparse-file.ts'

export function createFiles(process: SimProcess): Files {
  const { disk } = process.host
  const directory = disk.directory(process.name)
  return {
    open: (path, options) => open(process, disk, directory, normalPath(path), options?.create === true),
    read(path) {
      const at = normalPath(path)
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
    writeAtomic: (path, data) => writeAtomic(process, disk, directory, normalPath(path), data),
    list(path) {
      const at = normalPath(path)
      return disk.run(process, { operation: 'list', path: at, apply: () => list(directory, at) })
    },
    makeDirectory(path) {
      const at = normalPath(path)
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
    remove(path) {
      const at = normalPath(path)
      return disk.run(process, {
        operation: 'open',
        path: at,
        durable: true,
        apply: () => {
          directory.files.delete(at)
        },
      })
    },
    lock: path => lock(process, disk, directory, normalPath(path)),
  }
}

function missing(path: string, process: SimProcess): StellwerkError {
  return new StellwerkError('missing-file', `no such file: ${path}`, { where: process.name })
}

function needParent(directory: SimDirectory, path: string, process: SimProcess): void {
  const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')))
  if (!directory.directories.has(parent)) throw missing(parent, process)
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
  const apply = () => {
    needParent(directory, path, process)
    disk.reserve(Math.ceil(copy.byteLength / PAGE_BYTES) * PAGE_BYTES, path)
    const file = new SparseFile()
    file.write(0, [copy])
    file.makeDurable(0, copy.byteLength)
    directory.files.set(path, file)
  }
  return disk.run(process, {
    operation: 'replace',
    path,
    length: copy.byteLength,
    apply,
    ignored: () => undefined,
    interrupted: random => {
      if (directory.directories.has(path.slice(0, Math.max(0, path.lastIndexOf('/')))) && random.chance(0.5)) apply()
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
      return {
        release: () => {
          if (directory.locks.get(path) === process) directory.locks.delete(path)
        },
      }
    },
  })
}

class SimFile implements File {
  readonly #process: SimProcess
  readonly #disk: SimDisk
  readonly #path: string
  readonly #file: SparseFile
  #open = true

  constructor(process: SimProcess, disk: SimDisk, path: string, file: SparseFile) {
    this.#process = process
    this.#disk = disk
    this.#path = path
    this.#file = file
  }

  size(): Promise<number> {
    this.#mustBeOpen()
    return this.#disk.run(this.#process, { operation: 'open', path: this.#path, apply: () => this.#file.size })
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    this.#mustBeOpen()
    return this.#disk.run(this.#process, {
      operation: 'read',
      path: this.#path,
      offset,
      length,
      apply: misdirect => this.#file.read(Math.max(0, offset + misdirect), length),
    })
  }

  write(offset: number, data: readonly Uint8Array[], options?: { readonly durable?: boolean }): Promise<void> {
    this.#mustBeOpen()
    const durable = options?.durable === true
    const length = data.reduce((sum, part) => sum + part.byteLength, 0)
    const put = (at: number, parts: readonly Uint8Array[]) => {
      const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0)
      this.#file.write(at, parts)
      if (durable) this.#file.makeDurable(at, bytes)
    }
    return this.#disk.run(this.#process, {
      operation: 'write',
      path: this.#path,
      offset,
      length,
      durable,
      apply: misdirect => {
        const at = Math.max(0, offset + misdirect)
        this.#disk.reserve(this.#file.pagesToAdd(at, length) * PAGE_BYTES, this.#path)
        put(at, data)
      },
      ignored: () => undefined,
      interrupted: random => {
        if (random.chance(1 / 3)) return
        const all = join(data, length)
        const whole = random.chance(0.5)
        // Sectors land in any order; a sector lands as a whole.
        for (let at = 0; at < length; ) {
          const end = Math.min(length, at + SECTOR_BYTES - ((offset + at) % SECTOR_BYTES))
          if (whole || random.chance(0.5)) put(offset + at, [all.subarray(at, end)])
          at = end
        }
      },
    })
  }

  sync(): Promise<void> {
    this.#mustBeOpen()
    // A dead process's call must not even mark the file.
    if (!this.#process.alive) return new Promise(() => undefined)
    // What is written from here on is not covered.
    const token = this.#file.beginSync()
    return this.#disk.run(this.#process, {
      operation: 'sync',
      path: this.#path,
      length: Number.MAX_SAFE_INTEGER,
      apply: () => {
        if (!this.#file.endSync(token, true)) throw syncFailed(this.#path, this.#process)
      },
      failed: () => {
        this.#file.endSync(token, false)
      },
      // A lying device: what it calls synced stays unsynced.
      ignored: () => undefined,
    })
  }

  punch(offset: number, length: number): Promise<void> {
    this.#mustBeOpen()
    return this.#change('punch', offset, length, () => this.#file.punch(offset, length))
  }

  truncate(size: number): Promise<void> {
    this.#mustBeOpen()
    return this.#change('truncate', size, Number.MAX_SAFE_INTEGER, () => this.#file.truncate(size))
  }

  close(): Promise<void> {
    this.#open = false
    return this.#disk.run(this.#process, { operation: 'open', path: this.#path, apply: () => undefined })
  }

  #change(operation: 'punch' | 'truncate', offset: number, length: number, change: () => void): Promise<void> {
    return this.#disk.run(this.#process, {
      operation,
      path: this.#path,
      offset,
      length,
      apply: change,
      ignored: () => undefined,
      interrupted: random => {
        if (random.chance(0.5)) change()
      },
    })
  }

  #mustBeOpen(): void {
    assert(this.#open, `${this.#path} is open`)
  }
}

function syncFailed(path: string, process: SimProcess): StellwerkError {
  return new StellwerkError('EIO', `EIO: an earlier sync failed, ${path}`, { where: process.name })
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.byteLength
  }
  return all
}
