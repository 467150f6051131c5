// System calls on one file, by the thread pool: whole transfers or an error. No policy: who syncs when is node-file.ts.
//
// A thread that reads synchronously, one message a batch each way, was measured against the pool and won nothing: 256 KiB
// with 8 in flight 2.9 GiB/s against 3.7, one read at a time 4,500 to 10,000/s against 8,000 to 40,000. What does win, for
// short reads and many at once only, is a ring in shared memory (quick-reader.ts): an open with `worker` may use it.

import { close, constants, fdatasync, fstat, ftruncate, open, read, write, writev } from 'node:fs'
import type { QuickReader } from './quick-reader.ts'
import { countBuffer } from './young-collector.ts'

type Done = (error: NodeJS.ErrnoException | null) => void

function settled(start: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => start(error => (error === null ? resolve() : reject(error))))
}

export class RawFile {
  readonly #fd: number
  readonly #quick: QuickReader | null
  /** Reads under way, where a quick reader wants to know. */
  #reads = 0

  private constructor(fd: number, quick: QuickReader | null) {
    this.#fd = fd
    this.#quick = quick
  }

  /** `dataSync`: a write returns when its data is on stable storage (O_DSYNC). */
  static open(
    path: string,
    options: { readonly create: boolean; readonly dataSync: boolean; readonly quick?: QuickReader },
  ): Promise<RawFile> {
    const flags =
      constants.O_RDWR | (options.create ? constants.O_CREAT : 0) | (options.dataSync ? constants.O_DSYNC : 0)
    return new Promise((resolve, reject) => {
      open(path, flags, 0o600, (error, fd) =>
        error === null ? resolve(new RawFile(fd, options.quick ?? null)) : reject(error),
      )
    })
  }

  /** What lies past the end reads as zeroes. */
  read(offset: number, length: number): Promise<Uint8Array> {
    const quick = this.#quick
    if (quick === null) return this.#readByPool(offset, length)
    return new Promise((resolve, reject) => {
      this.#reads += 1
      const settle = (): void => {
        this.#reads -= 1
      }
      const byPool = (): void => {
        this.#readByPool(offset, length).then(resolve, reject).finally(settle)
      }
      const offered = quick.offer(this.#fd, offset, length, this.#reads, bytes => {
        if (bytes === null) return byPool()
        settle()
        resolve(bytes)
      })
      if (!offered) byPool()
    })
  }

  #readByPool(offset: number, length: number): Promise<Uint8Array> {
    const buffer = Buffer.allocUnsafeSlow(length)
    countBuffer(length)
    return new Promise((resolve, reject) => {
      const step = (at: number) => {
        read(this.#fd, buffer, at, length - at, offset + at, (error, count) => {
          if (error !== null) reject(error)
          else if (count === 0) resolve(buffer.fill(0, at))
          else if (at + count < length) step(at + count)
          else resolve(buffer)
        })
      }
      if (length === 0) resolve(buffer)
      else step(0)
    })
  }

  write(offset: number, parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (rest: readonly Uint8Array[], at: number) => {
        const written = (error: NodeJS.ErrnoException | null, count: number) => {
          if (error !== null) return reject(error)
          const left = skip(rest, count)
          return left.length === 0 ? resolve() : step(left, at + count)
        }
        const [first] = rest
        if (first === undefined) resolve()
        else if (rest.length === 1) write(this.#fd, first, 0, first.byteLength, at, written)
        else writev(this.#fd, rest, at, written)
      }
      step(skip(parts, 0), offset)
    })
  }

  dataSync(): Promise<void> {
    return settled(done => fdatasync(this.#fd, done))
  }

  size(): Promise<number> {
    return new Promise((resolve, reject) => {
      fstat(this.#fd, (error, stats) => (error === null ? resolve(stats.size) : reject(error)))
    })
  }

  truncate(size: number): Promise<void> {
    return settled(done => ftruncate(this.#fd, size, done))
  }

  close(): Promise<void> {
    return settled(done => close(this.#fd, done))
  }
}

/** The parts without their first `count` bytes and without empty ones. */
function skip(parts: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  const left: Uint8Array[] = []
  let toSkip = count
  for (const part of parts) {
    if (part.byteLength > toSkip) left.push(toSkip === 0 ? part : part.subarray(toSkip))
    toSkip = Math.max(0, toSkip - part.byteLength)
  }
  return left
}
