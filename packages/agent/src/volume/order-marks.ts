// The coordinator's orders about a volume's disks, in their order: one that was held up on its way, was asked for again another
// way, and comes after later ones would make anew what has been deleted since, or delete what has been made since.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export class OrderMarks {
  /** Per volume the highest number that came, whoever owned it here: what is held up outlives an ownership. */
  readonly #highest = new Map<string, number>()

  /** Throws `stale-order` for a number below one that came before; the same again is the same order, repeated. */
  check(volume: string, order: number | undefined): void {
    if (order === undefined) return
    const highest = this.#highest.get(volume) ?? 0
    if (order < highest) {
      throw new StellwerkError('stale-order', `order ${order} came after order ${highest}: it is over`, {
        where: volume,
        hint: 'ask again',
        retryable: true,
      })
    }
    this.#highest.set(volume, order)
  }
}
