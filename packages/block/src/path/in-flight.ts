// The requests in flight on one connection. An array, in which each request knows its place, and not a Set: the table of a
// Set that is filled and emptied all the time is replaced again and again, a discarded table refers to its successor, and
// one that has grown old keeps all that follow it, with the requests' buffers, until the whole heap is collected. Measured
// with 256 KiB requests: the heap was marked every 100 MiB, and no more once it was an array.

import { assert } from '@stellwerk/runtime/assert.ts'
import { isMutating, type MultipathRequest } from './request.ts'

export class InFlight {
  readonly #requests: MultipathRequest[] = []

  add(request: MultipathRequest): void {
    assert(request.place === -1, 'a request is in flight once')
    request.place = this.#requests.length
    this.#requests.push(request)
  }

  remove(request: MultipathRequest): void {
    assert(this.#requests[request.place] === request, 'a request is in flight where it says')
    const last = this.#requests.pop()!
    if (last !== request) {
      this.#requests[request.place] = last
      last.place = request.place
    }
    request.place = -1
  }

  /** When the oldest of them was sent; null: there is none. */
  get oldestSentAt(): number | null {
    let oldest: number | null = null
    for (const { sentAt } of this.#requests) if (oldest === null || sentAt < oldest) oldest = sentAt
    return oldest
  }

  /** When the oldest of them was first asked for; null: there is none. */
  get oldestAskedAt(): number | null {
    let oldest: number | null = null
    for (const { askedAt } of this.#requests) {
      if (askedAt !== null && (oldest === null || askedAt < oldest)) oldest = askedAt
    }
    return oldest
  }

  get size(): number {
    return this.#requests.length
  }

  /** Whether a late effect of one of them would be seen. */
  get mutating(): boolean {
    return this.#requests.some(request => isMutating(request.kind))
  }
}
