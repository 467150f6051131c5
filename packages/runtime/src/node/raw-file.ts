// System calls on one file, by the thread pool: whole transfers or an error. No policy: who syncs when is node-file.ts.
//
// A thread that reads synchronously, one message a batch each way, was measured against this. 4 KiB with 32 in flight: both
// 80,000 to 165,000 reads/s as the machine's other load had it, this one with 4 µs of the main thread a read, the other with
// 2.5. 256 KiB with 8 in flight: this one 3.7 GiB/s, the other 2.9. One at a time: 8,000 to 40,000 against 4,500 to 10,000.
// Losing more than it wins, it was left out.

import { close, constants, fdatasync, fstat, ftruncate, open, read, write, writev } from 'node:fs'
import { countBuffer } from './young-collector.ts'

type Done = (error: NodeJS.ErrnoException | null) => void

function settled(start: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => start(error => (error === null ? resolve() : reject(error))))
}

export class RawFile {
  readonly #fd: number

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** `dataSync`: a write returns when its data is on stable storage (O_DSYNC). */
  static open(path: string, options: { readonly create: boolean; readonly dataSync: boolean }): Promise<RawFile> {
    const flags =
      constants.O_RDWR | (options.create ? constants.O_CREAT : 0) | (options.dataSync ? constants.O_DSYNC : 0)
    return new Promise((resolve, reject) => {
      open(path, flags, 0o600, (error, fd) => (error === null ? resolve(new RawFile(fd)) : reject(error)))
    })
  }

  /** What lies past the end reads as zeroes. */
  read(offset: number, length: number): Promise<Uint8Array> {
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
