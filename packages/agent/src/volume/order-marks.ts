// The coordinator's orders about a volume's disks, in their order: one that was held up on its way, was asked for again another
// way, and comes after later ones would make anew what has been deleted since, or delete what has been made since.

import type { Store } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export class OrderMarks {
  readonly #store: Pick<Store, 'get' | 'commit'>

  /** Per volume the highest number that came, whoever owned it here: what is held up outlives an ownership, and an agent. */
  constructor(store: Pick<Store, 'get' | 'commit'>) {
    this.#store = store
  }

  /** Throws `stale-order` for a number below one that came before; the same again is the same order, repeated. */
  check(volume: string, order: number | undefined): void {
    if (order === undefined) return
    const stored = this.#store.get(`orders/${volume}`)
    const highest = typeof stored === 'number' ? stored : 0
    if (order < highest) {
      throw new StellwerkError('stale-order', `order ${order} came after order ${highest}: it is over`, {
        where: volume,
        hint: 'ask again',
        retryable: true,
      })
    }
    if (order > highest) this.#store.commit([{ put: `orders/${volume}`, value: order }])
  }
}
