// Files in memory for unit tests, with a hook before each write and read that may delay or fail it. It promises nothing about
// crashes: the simulation's files do.

import type { File, Files } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export class MemoryFiles implements Files {
  readonly contents = new Map<string, Uint8Array>()
  /** Files open at this moment. */
  opened = 0
  beforeWrite: (path: string, bytes: number) => Promise<void> = () => Promise.resolve()

  async open(path: string, options?: { readonly create?: boolean }): Promise<File> {
    if (!this.contents.has(path)) {
      if (options?.create !== true) throw new StellwerkError('missing-file', 'no such file', { where: path })
      this.contents.set(path, new Uint8Array())
    }
    this.opened += 1
    const bytes = (): Uint8Array => this.contents.get(path) ?? new Uint8Array()
    const done = Promise.resolve()
    return {
      size: () => Promise.resolve(bytes().byteLength),
      read: (offset, length) => {
        const result = new Uint8Array(length)
        result.set(bytes().subarray(offset, offset + length))
        return Promise.resolve(result)
      },
      write: async (offset, data) => {
        const length = data.reduce((sum, part) => sum + part.byteLength, 0)
        await this.beforeWrite(path, length)
        const old = bytes()
        const next = new Uint8Array(Math.max(old.byteLength, offset + length))
        next.set(old)
        let at = offset
        for (const part of data) {
          next.set(part, at)
          at += part.byteLength
        }
        this.contents.set(path, next)
      },
      sync: () => done,
      punch: () => done,
      truncate: size => {
        this.contents.set(path, bytes().slice(0, size))
        return done
      },
      close: () => {
        this.opened -= 1
        return done
      },
    }
  }

  read(path: string): Promise<Uint8Array | null> {
    return Promise.resolve(this.contents.get(path) ?? null)
  }

  handOver(): Promise<void> {
    return Promise.resolve()
  }

  seal(): Promise<void> {
    return Promise.resolve()
  }

  writeAtomic(path: string, data: Uint8Array): Promise<void> {
    this.contents.set(path, data.slice())
    return Promise.resolve()
  }

  list(path: string): Promise<string[]> {
    const below = [...this.contents.keys()].filter(name => name.startsWith(`${path}/`))
    return Promise.resolve(below.map(name => name.slice(path.length + 1)).sort())
  }

  locate(path: string): string {
    return `/${path}`
  }

  makeDirectory(): Promise<void> {
    return Promise.resolve()
  }

  remove(path: string): Promise<void> {
    this.contents.delete(path)
    return Promise.resolve()
  }

  lock(): Promise<never> {
    return Promise.reject(new StellwerkError('not-in-tests', 'files in memory have no locks'))
  }
}
