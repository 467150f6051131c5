// Ranges of a device that one piece of work has to itself: what is in flight there is waited for, what comes waits. The
// copier, the scrub and the repair of a bad sector take them; guests' writes only pass by (DESIGN section 7: local range
// locks).

export interface RangeLock {
  readonly start: number
  readonly end: number
  /** Requests in flight when it was taken. */
  ahead: number
  granted: (() => void) | null
  readonly waiters: (() => void)[]
}

export class RangeLocks {
  readonly #locks: RangeLock[] = []

  /** Nothing is locked: the answer on nearly every request. */
  get none(): boolean {
    return this.#locks.length === 0
  }

  /** A lock that covers part of the range; null: a request may begin. */
  covering(start: number, end: number): RangeLock | null {
    return this.#locks.find(lock => lock.start < end && start < lock.end) ?? null
  }

  /** Resolves when this lock is over; others may cover the range by then. */
  over(lock: RangeLock): Promise<void> {
    return new Promise(resolve => lock.waiters.push(resolve))
  }

  /** `ahead`: requests in flight that touch the range. Nothing may cover it yet. */
  take(start: number, end: number, ahead: number): RangeLock {
    const lock: RangeLock = { start, end, ahead, granted: null, waiters: [] }
    this.#locks.push(lock)
    return lock
  }

  granted(lock: RangeLock): Promise<void> {
    if (lock.ahead === 0) return Promise.resolve()
    return new Promise(resolve => {
      lock.granted = resolve
    })
  }

  /** A request that was in flight when locks were taken is over. */
  ended(start: number, end: number): void {
    for (const lock of this.#locks) {
      if (lock.ahead === 0 || lock.start >= end || start >= lock.end) continue
      lock.ahead -= 1
      if (lock.ahead === 0) lock.granted?.()
    }
  }

  release(lock: RangeLock): void {
    this.#locks.splice(this.#locks.indexOf(lock), 1)
    for (const waiter of lock.waiters) waiter()
  }
}
