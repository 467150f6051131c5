// The one queue of the simulation: a binary heap ordered by (time, sequence), so that no two events are ever equal.

import type { SimProcess } from './process.ts'

export interface SimEvent {
  readonly time: number
  readonly seq: number
  /** Whose code it runs; null: the world's or the scenario's. */
  readonly process: SimProcess | null
  /** Null once cancelled. */
  run: (() => void) | null
}

/** Cancelled events are swept when they are this many and half of the queue. */
const SWEEP_MIN = 1024

export class EventQueue {
  #heap: SimEvent[] = []
  #seq = 0
  #cancelled = 0

  get size(): number {
    return this.#heap.length - this.#cancelled
  }

  push(time: number, process: SimProcess | null, run: () => void): SimEvent {
    const event: SimEvent = { time, seq: this.#seq++, process, run }
    this.#heap.push(event)
    this.#up(this.#heap.length - 1)
    return event
  }

  cancel(event: SimEvent): void {
    if (event.run === null) return
    event.run = null
    this.#cancelled++
    if (this.#cancelled >= SWEEP_MIN && this.#cancelled * 2 > this.#heap.length) this.#sweep()
  }

  /** The next event not cancelled, left in place. */
  peek(): SimEvent | null {
    for (;;) {
      const top = this.#heap[0]
      if (top === undefined) return null
      if (top.run !== null) return top
      this.#cancelled--
      this.#removeTop()
    }
  }

  /** Takes what `peek` gave. */
  pop(): void {
    this.#removeTop()
  }

  #removeTop(): void {
    const last = this.#heap.pop()
    if (last === undefined || this.#heap.length === 0) return
    this.#heap[0] = last
    this.#down(0)
  }

  #up(index: number): void {
    const heap = this.#heap
    const event = heap[index]!
    let at = index
    while (at > 0) {
      const parentAt = (at - 1) >> 1
      const parent = heap[parentAt]!
      if (parent.time < event.time || (parent.time === event.time && parent.seq < event.seq)) break
      heap[at] = parent
      at = parentAt
    }
    heap[at] = event
  }

  #down(index: number): void {
    const heap = this.#heap
    const event = heap[index]!
    const length = heap.length
    let at = index
    for (;;) {
      let childAt = 2 * at + 1
      if (childAt >= length) break
      let child = heap[childAt]!
      if (childAt + 1 < length) {
        const right = heap[childAt + 1]!
        if (right.time < child.time || (right.time === child.time && right.seq < child.seq)) {
          child = right
          childAt++
        }
      }
      if (event.time < child.time || (event.time === child.time && event.seq < child.seq)) break
      heap[at] = child
      at = childAt
    }
    heap[at] = event
  }

  #sweep(): void {
    this.#heap = this.#heap.filter(event => event.run !== null)
    this.#cancelled = 0
    for (let i = (this.#heap.length >> 1) - 1; i >= 0; i--) this.#down(i)
  }
}
