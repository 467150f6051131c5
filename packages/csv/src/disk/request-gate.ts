// Counts a disk's requests, holds new ones back while it drains, and tells when all I/O that began before a moment is
// done (a grace period): what frees extents must know that nothing still reads or writes them.

import type { BlockError, Io } from '@stellwerk/block/device.ts'
import { BlockError as Failure } from '@stellwerk/block/device.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'

/** I/O that began between two grace periods. */
export interface Generation {
  inFlight: number
  over: (() => void) | null
}

export class RequestGate {
  /** Read on every request. */
  isShut = false
  #generation: Generation = { inFlight: 0, over: null }
  /** Earlier generations with I/O still in flight. */
  readonly #earlier = new Set<Promise<void>>()
  #requests = 0
  #idle: (() => void)[] = []
  #held: { readonly open: () => void; readonly refuse: (error: BlockError) => void }[] = []

  /** Requests that were let in and are not over. */
  get requests(): number {
    return this.#requests
  }

  /** A request whose I/O begins in the same turn. */
  enter(): Generation {
    this.#requests += 1
    this.#generation.inFlight += 1
    return this.#generation
  }

  leave(generation: Generation): void {
    this.endIo(generation)
    this.leaveSlow()
  }

  /** A request that may wait for things before its I/O begins. */
  enterSlow(): void {
    this.#requests += 1
  }

  leaveSlow(): void {
    this.#requests -= 1
    if (this.#requests === 0 && this.#idle.length > 0) this.#wakeIdle()
  }

  /** I/O of a slow request: between looking up a mapping and this there must be no turn. */
  beginIo(): Generation {
    this.#generation.inFlight += 1
    return this.#generation
  }

  endIo(generation: Generation): void {
    generation.inFlight -= 1
    if (generation.inFlight === 0) generation.over?.()
  }

  /** Resolves when all I/O that has begun is done; what begins now does not count. */
  async grace(): Promise<void> {
    const old = this.#generation
    this.#generation = { inFlight: 0, over: null }
    if (old.inFlight > 0) {
      const over = new Promise<void>(resolve => {
        old.over = resolve
      })
      this.#earlier.add(over)
      void over.then(() => this.#earlier.delete(over))
    }
    await Promise.all(this.#earlier)
  }

  /** Resolves when no request is in, or the gate was opened again. */
  async idle(): Promise<void> {
    while (this.#requests > 0 && this.isShut) {
      await new Promise<void>(resolve => {
        this.#idle.push(resolve)
      })
    }
  }

  shut(): void {
    this.isShut = true
  }

  open(): void {
    this.isShut = false
    this.#wakeIdle()
    this.#release(held => held.open())
  }

  /** Those that wait, and whoever comes, get the error. */
  refuse(error: BlockError): void {
    this.isShut = true
    this.#release(held => held.refuse(error))
  }

  /** Waits for `open`, up to the request's deadline. */
  opened(io: Io, env: Pick<Environment, 'clock' | 'timers'>): Promise<void> {
    return new Promise((resolve, reject) => {
      const late = (): void => {
        this.#held.splice(this.#held.indexOf(entry), 1)
        reject(
          new Failure('EIO', 'none', 'the disk was being drained until the request was too late', { retryable: true }),
        )
      }
      const timer = io.deadlineAt === null ? null : env.timers.after(Math.max(0, io.deadlineAt - env.clock.now()), late)
      const entry = {
        open: () => {
          timer?.cancel()
          resolve()
        },
        refuse: (error: BlockError) => {
          timer?.cancel()
          reject(error)
        },
      }
      this.#held.push(entry)
    })
  }

  #wakeIdle(): void {
    const idle = this.#idle
    this.#idle = []
    for (const f of idle) f()
  }

  #release(f: (held: { open: () => void; refuse: (error: BlockError) => void }) => void): void {
    const held = this.#held
    this.#held = []
    for (const each of held) f(each)
  }
}
