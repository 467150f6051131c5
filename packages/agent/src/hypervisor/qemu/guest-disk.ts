// A disk as QEMU is served it. While the machine is to stand still, its requests are answered with an error, also those that
// wait for storage: QEMU then keeps them (werror=stop) and issues them again when the machine goes on. Nothing else lets a
// machine stop whose storage does not answer, since QEMU's own `stop` waits for its requests.

import { type BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import { PassingDevice } from '../passing-device.ts'

interface Pending {
  readonly beneath: Promise<unknown>
  readonly fail: (error: BlockError) => void
}

export class GuestDisk extends PassingDevice {
  readonly #mayPass: () => boolean
  #state: 'held' | 'admitting' | 'refusing' = 'held'
  /** Requests that wait for the disk, and their askers with them. */
  readonly #pending = new Set<Pending>()
  /** Requests whose asker was given an error while the disk still works on them. */
  readonly #orphans = new Set<Promise<unknown>>()

  /** `mayPass` is asked before a request goes down and before its answer goes up. */
  constructor(disk: BlockDevice, mayPass: () => boolean) {
    super(disk)
    this.#mayPass = mayPass
  }

  /** From now on requests go down. */
  admit(): void {
    if (this.#state === 'held') this.#state = 'admitting'
  }

  /** From now on requests fail, at once; those below go on there and nobody hears of them. */
  hold(): void {
    if (this.#state === 'admitting') this.#state = 'held'
    this.#abandon()
  }

  /** As `hold`, for good. */
  refuse(): void {
    this.#state = 'refusing'
    this.#abandon()
  }

  /** Resolves when the disk works on nothing of ours any more. */
  async settled(): Promise<void> {
    while (this.#pending.size + this.#orphans.size > 0) {
      await Promise.allSettled([...this.#orphans, ...[...this.#pending].map(({ beneath }) => beneath)])
    }
  }

  /** The disk is its opener's. */
  async close(): Promise<void> {
    this.refuse()
  }

  protected async pass<T>(request: () => Promise<T>): Promise<T> {
    // What a held request asked for may still be under way: asked again, it must not overtake itself.
    while (this.#orphans.size > 0 && this.#state === 'admitting') await this.#anyOrphan()
    if (this.#state !== 'admitting' || !this.#mayPass()) throw this.#held('none')
    return new Promise<T>((resolve, reject) => {
      const beneath = request()
      const pending: Pending = { beneath, fail: reject }
      this.#pending.add(pending)
      beneath.then(
        answer => {
          if (!this.#pending.delete(pending)) return
          if (this.#mayPass()) resolve(answer)
          else reject(this.#held('unknown'))
        },
        (error: unknown) => {
          if (this.#pending.delete(pending)) reject(error)
        },
      )
    })
  }

  /** Or until nothing is admitted any more. */
  #anyOrphan(): Promise<void> {
    return new Promise((resolve, reject) => {
      const beneath = Promise.race(this.#orphans)
      const pending: Pending = { beneath, fail: reject }
      this.#pending.add(pending)
      const done = (): void => {
        if (this.#pending.delete(pending)) resolve()
      }
      beneath.then(done, done)
    })
  }

  #abandon(): void {
    for (const { beneath, fail } of this.#pending) {
      if (!this.#orphans.has(beneath)) {
        this.#orphans.add(beneath)
        const gone = (): void => void this.#orphans.delete(beneath)
        beneath.then(gone, gone)
      }
      fail(this.#held('unknown'))
    }
    this.#pending.clear()
  }

  #held(outcome: 'none' | 'unknown'): BlockError {
    return this.#state === 'refusing'
      ? new BlockError('ESHUTDOWN', outcome, 'the machine has ended')
      : new BlockError('EIO', outcome, 'the machine is to stand still')
  }
}
