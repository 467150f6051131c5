// Legs in memory that a test can hold, fail and cut, and storages that take only one generation.

import type { BlockDevice, BlockErrno, DeviceState, Io } from '../../device.ts'
import { BlockError } from '../../device.ts'
import { MemoryDevice } from '../../memory-device.ts'
import type { Generation } from '../generation.ts'
import type { LegDevice } from '../legs.ts'

export const SIZE = 1024 * 1024

/** What a storage keeps: the bytes and the generation that it was told. */
export class TestStorage {
  readonly disk = new MemoryDevice({ size: SIZE })
  stored: Generation
  /** Requests wait here while it is held. */
  held: (() => void)[] | null = null
  /** The next changes, or reads, fail so. */
  failChanges: BlockErrno | null = null
  failReads: BlockErrno | null = null
  /** It can zero nothing fast. */
  isSlowToZero = false
  /** Blocks of 4 KiB that cannot be read until they are written anew; `hopeless` ones not even then. */
  readonly latent = new Set<number>()
  hopeless = false
  down = false
  reads = 0
  readonly open = new Set<TestLeg>()

  constructor(stored: Generation) {
    this.stored = stored
  }

  /** As a storage does it: connections of another generation end. */
  raise(generation: Generation): void {
    this.stored = generation
    for (const leg of [...this.open]) if (leg.generation !== generation.number) leg.die(refusal(generation))
  }

  release(): void {
    const held = this.held ?? []
    this.held = null
    for (const go of held) go()
  }
}

export function refusal(stored: Generation): string {
  return `generation-refused ${stored.number} ${JSON.stringify(stored.legs)}`
}

export class TestLeg implements LegDevice {
  readonly size = SIZE
  readonly limits
  readonly caps
  readonly generation: number
  readonly #storage: TestStorage
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  readonly #pending = new Set<(error: BlockError) => void>()
  #dead = false

  constructor(storage: TestStorage, generation: number) {
    this.#storage = storage
    this.generation = generation
    this.limits = storage.disk.limits
    this.caps = storage.disk.caps
    storage.open.add(this)
  }

  #run<T>(fail: BlockErrno | null, work: (disk: BlockDevice) => Promise<T>): Promise<T> {
    if (this.#dead) return Promise.reject(new BlockError('ESHUTDOWN', 'none', 'the leg is gone'))
    return new Promise<T>((resolve, reject) => {
      this.#pending.add(reject)
      const go = (): void => {
        if (!this.#pending.delete(reject)) return
        if (fail !== null) reject(new BlockError(fail, 'none', `the leg says ${fail}`))
        else work(this.#storage.disk).then(resolve, reject)
      }
      if (this.#storage.held === null) go()
      else this.#storage.held.push(go)
    })
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    this.#storage.reads += 1
    const bad = blocks(offset, length).some(block => this.#storage.latent.has(block))
    return this.#run(bad ? 'EIO' : this.#storage.failReads, disk => disk.read(offset, length, io))
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#run(this.#storage.failChanges, async disk => {
      const length = data.reduce((sum, part) => sum + part.length, 0)
      await disk.write(offset, data, flags, io)
      if (!this.#storage.hopeless) for (const block of blocks(offset, length)) this.#storage.latent.delete(block)
    })
  }

  flush(io: Io): Promise<void> {
    return this.#run(this.#storage.failChanges, disk => disk.flush(io))
  }

  zero(offset: number, length: number, flags: { readonly fast?: true }, io: Io): Promise<void> {
    const declined = flags.fast === true && this.#storage.isSlowToZero ? 'ENOTSUP' : null
    return this.#run(this.#storage.failChanges ?? declined, disk => disk.zero(offset, length, flags, io))
  }

  trim(offset: number, length: number, flags: object, io: Io): Promise<void> {
    return this.#run(this.#storage.failChanges, disk => disk.trim(offset, length, flags, io))
  }

  blockStatus(offset: number, length: number, io: Io) {
    return this.#run(null, disk => disk.blockStatus!(offset, length, io))
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  /** As its paths come and go. */
  tell(state: DeviceState): void {
    for (const listener of this.#listeners) listener(state, `the leg is ${state}`)
  }

  async close(): Promise<void> {
    this.abort('closed')
  }

  abort(reason: string): void {
    this.die(reason)
  }

  die(reason: string): void {
    if (this.#dead) return
    this.#dead = true
    this.#storage.open.delete(this)
    for (const reject of this.#pending) reject(new BlockError('ESHUTDOWN', 'unknown', reason))
    this.#pending.clear()
    for (const listener of this.#listeners) listener('failed', reason)
  }
}

function blocks(offset: number, length: number): number[] {
  const first = Math.floor(offset / 4096)
  return Array.from({ length: Math.ceil((offset + length) / 4096) - first }, (_, i) => first + i)
}

/** What `open` of a mirror does: refuses another generation in the storage's words, waits while the storage is down. */
export function opener(storages: { readonly [leg: string]: TestStorage }) {
  return async (leg: string, generation: number, _signal: AbortSignal): Promise<LegDevice> => {
    const storage = storages[leg]!
    if (storage.down) throw new BlockError('EIO', 'none', `${leg} does not answer`)
    if (storage.stored.number !== generation) throw new BlockError('EIO', 'none', refusal(storage.stored))
    return new TestLeg(storage, generation)
  }
}
