// A simulated host's disk: a directory for each process, operations that take time, faults, and power loss.
// What a process sees of it is files.ts; what a file holds is sparse-file.ts.

import { assert } from '../assert.ts'
import { StellwerkError } from '../errors.ts'
import { type DiskAccess, type DiskFault, DiskFaults, type DiskOperation, type DiskRule } from './disk-faults.ts'
import type { SimHost } from './host.ts'
import type { SimProcess } from './process.ts'
import type { SimRandom } from './random.ts'
import type { Simulation } from './simulation.ts'
import type { CrashMode, SparseFile } from './sparse-file.ts'
import { StoredEntries } from './stored-entries.ts'

/** Base and jitter in milliseconds. A write without FUA goes to the page cache. */
export interface DiskLatency {
  readonly readMs: number
  readonly writeMs: number
  readonly durableMs: number
  /** Of each, at most this part more. */
  readonly jitter: number
}

const DEFAULT_LATENCY: DiskLatency = { readMs: 0.1, writeMs: 0.03, durableMs: 0.5, jitter: 0.5 }

/** Operations in flight on one disk. */
const IN_FLIGHT_MAX = 100_000

/** What a process left on disk, and the files open or not. */
export interface SimDirectory {
  readonly files: Map<string, SparseFile>
  readonly directories: Set<string>
  store: StoredEntries
  readonly locks: Map<string, SimProcess>
}

/** A copy of a directory at some time. */
export interface DirectorySnapshot {
  readonly files: ReadonlyMap<string, SparseFile>
  readonly directories: readonly string[]
  readonly store: StoredEntries
}

/** One operation; `range` and `path` are what faults match. */
export interface DiskWork<T> {
  readonly operation: DiskOperation
  readonly path: string
  readonly offset?: number
  readonly length?: number
  readonly durable?: boolean
  /** Done when the device is done. `misdirect`: how far from where it should be. */
  readonly apply: (misdirect: number) => T
  /** What an `ignore` fault answers. */
  readonly ignored?: () => T
  /** The process or the power was gone while it was in flight: it happened, in part, or not. */
  readonly interrupted?: (random: SimRandom) => void
  /** The device failed it. */
  readonly failed?: () => void
}

interface InFlight {
  readonly process: SimProcess
  readonly interrupted: ((random: SimRandom) => void) | undefined
  readonly finish: () => void
  hung: boolean
}

export class SimDisk {
  latency: DiskLatency = DEFAULT_LATENCY
  readonly #sim: Simulation
  readonly #host: SimHost
  readonly #random: SimRandom
  readonly #directories = new Map<string, SimDirectory>()
  readonly #faults: DiskFaults
  readonly #inFlight = new Set<InFlight>()
  #quotaBytes = Number.POSITIVE_INFINITY

  constructor(sim: Simulation, host: SimHost) {
    this.#sim = sim
    this.#host = host
    this.#random = sim.random.fork(`disk/${host.name}`)
    this.#faults = new DiskFaults(() => this.#wakeHung())
  }

  // --- for scenarios -------------------------------------------------------------------------------------------------

  fault(rule: DiskRule): DiskFault {
    return this.#faults.add(rule)
  }

  healAll(): void {
    this.#faults.healAll()
  }

  /** Some fault is on it, whether it has hit anything or not. */
  get faulty(): boolean {
    return this.#faults.some
  }

  /** Room for file contents on the whole disk; beyond it writes fail with ENOSPC. */
  setQuota(bytes: number): void {
    this.#quotaBytes = bytes
  }

  get allocatedBytes(): number {
    let sum = 0
    for (const directory of this.#directories.values())
      for (const file of directory.files.values()) sum += file.allocatedBytes
    return sum
  }

  /** A file as seen from outside: contents, what is durable, bit rot. Null: there is none. */
  file(process: string, path: string): SparseFile | null {
    return this.#directories.get(process)?.files.get(normalPath(path)) ?? null
  }

  snapshot(process: string): DirectorySnapshot {
    const directory = this.directory(process)
    return {
      files: new Map([...directory.files].map(([path, file]) => [path, file.clone()])),
      directories: [...directory.directories],
      store: directory.store.clone(),
    }
  }

  /** Rolls a process's directory (files and store) back to a copy, all of it durable. The process must not be running. */
  restore(process: string, snapshot: DirectorySnapshot): void {
    assert(this.#host.process(process)?.alive !== true, `${process} is not running while its directory is replaced`)
    const directory = this.directory(process)
    directory.files.clear()
    for (const [path, file] of snapshot.files) {
      const copy = file.clone()
      copy.powerLost('kept', null)
      directory.files.set(path, copy)
    }
    directory.directories.clear()
    for (const path of snapshot.directories) directory.directories.add(path)
    directory.store = snapshot.store.clone()
  }

  // --- for the parts of the simulation -------------------------------------------------------------------------------

  directory(process: string): SimDirectory {
    let directory = this.#directories.get(process)
    if (directory === undefined) {
      directory = { files: new Map(), directories: new Set(['']), store: new StoredEntries(), locks: new Map() }
      this.#directories.set(process, directory)
    }
    return directory
  }

  /** Where a process's files are: in the directory of its name, or below the absolute path that it was started in. */
  root(process: SimProcess): { readonly directory: SimDirectory; readonly prefix: string } {
    const at = process.directory
    if (at === null) return { directory: this.directory(process.name), prefix: '' }
    for (const [name, directory] of this.#directories) {
      const start = `/${name}/`
      if (at.startsWith(start)) return { directory, prefix: normalPath(at.slice(start.length)) }
    }
    throw new StellwerkError('missing-file', `no such directory: ${at}`, { where: process.name })
  }

  /** Throws ENOSPC when so many more bytes do not fit. */
  reserve(bytes: number, path: string): void {
    if (bytes === 0 || this.#quotaBytes === Number.POSITIVE_INFINITY) return
    if (this.allocatedBytes + bytes > this.#quotaBytes) throw diskError('ENOSPC', path, this.#host.name)
  }

  /** Starts an operation of a process; it completes in an event of its own. */
  run<T>(process: SimProcess, work: DiskWork<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      process.effect(() => this.#start(process, work, resolve, reject))
    })
  }

  /** A commit of a store is synchronous: it can only fail. */
  commitFault(process: SimProcess): void {
    for (const verdict of this.#faults.judge(access(process, { operation: 'commit', path: '' }), this.#random)) {
      if (typeof verdict === 'string' && verdict.startsWith('E')) throw diskError(verdict, 'the store', process.name)
    }
  }

  processEnded(process: SimProcess): void {
    for (const operation of [...this.#inFlight]) {
      if (operation.process !== process) continue
      this.#inFlight.delete(operation)
      operation.interrupted?.(this.#random)
    }
    const { locks } = this.directory(process.name)
    for (const [path, owner] of locks) if (owner === process) locks.delete(path)
  }

  powerLost(mode: CrashMode): void {
    for (const directory of this.#directories.values()) {
      for (const file of directory.files.values()) file.powerLost(mode, this.#random)
    }
  }

  #start<T>(
    process: SimProcess,
    work: DiskWork<T>,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ): void {
    assert(this.#inFlight.size < IN_FLIGHT_MAX, `at most ${IN_FLIGHT_MAX} operations in flight on ${this.#host.name}`)
    let delayMs = this.#cost(work)
    let error: string | null = null
    let hung = false
    let ignored = false
    let misdirect = 0
    for (const verdict of this.#faults.judge(access(process, work), this.#random)) {
      if (verdict === 'hang') hung = true
      else if (verdict === 'ignore') ignored = true
      else if (typeof verdict === 'string') error ??= verdict
      else if ('delayMs' in verdict) delayMs += verdict.delayMs + (verdict.jitterMs ?? 0) * this.#random.float()
      else misdirect += verdict.misdirectBytes
    }
    const finish = () => {
      if (!this.#inFlight.delete(operation)) return
      if (error !== null) {
        work.failed?.()
        const problem = diskError(error, work.path, process.name)
        process.deliver(() => reject(problem))
        return
      }
      try {
        const value = ignored && work.ignored !== undefined ? work.ignored() : work.apply(misdirect)
        process.deliver(() => resolve(value))
      } catch (problem) {
        if (!(problem instanceof StellwerkError)) throw problem
        process.deliver(() => reject(problem))
      }
    }
    const operation: InFlight = { process, interrupted: work.interrupted, finish, hung }
    this.#inFlight.add(operation)
    if (!hung) this.#sim.schedule(delayMs, null, finish)
  }

  #cost<T>(work: DiskWork<T>): number {
    const { readMs, writeMs, durableMs, jitter } = this.latency
    const base =
      work.durable === true || work.operation === 'sync' || work.operation === 'replace'
        ? durableMs
        : work.operation === 'write' || work.operation === 'punch' || work.operation === 'truncate'
          ? writeMs
          : readMs
    return base * (1 + jitter * this.#random.float())
  }

  /** A fault was healed: hung operations go on (those that another fault still hangs would hang again when retried). */
  #wakeHung(): void {
    for (const operation of this.#inFlight) {
      if (!operation.hung) continue
      operation.hung = false
      this.#sim.schedule(this.latency.readMs * this.#random.float(), null, operation.finish)
    }
  }
}

/** A path below the process's directory, without detours. */
export function normalPath(path: string): string {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.pop() === undefined) {
      throw new StellwerkError('bad-path', 'the path leads out of the directory', { where: path })
    }
  }
  return parts.join('/')
}

export function diskError(code: string, path: string, where: string): StellwerkError {
  const words: Record<string, string> = {
    EIO: 'input/output error',
    ENOSPC: 'no space left on device',
    EROFS: 'read-only file system',
  }
  return new StellwerkError(code, `${code}: ${words[code] ?? 'disk error'}, ${path}`, { where })
}

function access(
  process: SimProcess,
  work: { operation: DiskOperation; path: string; offset?: number; length?: number },
): DiskAccess {
  const { operation, path, offset = 0, length = 0 } = work
  return { process: process.name, path, operation, offset, length }
}
