// The disk under an export: each request waits for the right to run before it goes down, and its answer before it goes up.
// What waits is bounded by what the NBD server takes from its connections.

import { type BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import { PassingDevice } from '../passing-device.ts'

export class HeldDevice extends PassingDevice {
  readonly #mayPass: () => boolean
  #waiting: (() => void)[] = []
  #refused = false

  /** `mayPass` is asked at each passage; after it said no, `release` tells when to ask again. */
  constructor(disk: BlockDevice, mayPass: () => boolean) {
    super(disk)
    this.#mayPass = mayPass
  }

  release(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }

  /** From now on nothing passes, and what waits is refused. */
  refuse(): void {
    this.#refused = true
    this.release()
  }

  /** The disk is its opener's. */
  async close(): Promise<void> {
    this.refuse()
  }

  protected async pass<T>(request: () => Promise<T>): Promise<T> {
    while (!this.#mayGo('none')) await this.#released()
    const answer = await request()
    // It took effect; but whoever may not run may not be heard either.
    while (!this.#mayGo('unknown')) await this.#released()
    return answer
  }

  #mayGo(outcome: 'none' | 'unknown'): boolean {
    if (this.#refused) throw new BlockError('ESHUTDOWN', outcome, 'the export has ended')
    return this.#mayPass()
  }

  #released(): Promise<void> {
    return new Promise(resolve => {
      this.#waiting.push(resolve)
    })
  }
}
