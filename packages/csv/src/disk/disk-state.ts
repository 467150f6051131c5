// What a disk is in, to whoever listens: up, waiting for the owner or for what lies below, failed for good, closed; and
// whether its writers wait for somebody to make room.

import type { BlockError, DeviceState } from '@stellwerk/block/device.ts'

export class DiskState {
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  readonly #criticalListeners: ((why: string | null) => void)[] = []
  #state: DeviceState = 'up'
  #below: DeviceState = 'up'
  /** Why the owner has not answered something yet. */
  #awaited: string | null = null
  #critical: string | null = null
  /** Set: every request gets it. Read on each. */
  failure: BlockError | null = null

  get state(): DeviceState {
    return this.#state
  }

  get critical(): string | null {
    return this.#critical
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  onCritical(listener: (why: string | null) => void): void {
    this.#criticalListeners.push(listener)
  }

  ownerAway(reason: string | null): void {
    this.#awaited = reason
    if (this.#below !== 'up') return
    if (reason === null) this.set('up', 'the volume owner answers')
    else this.set('waiting', `the volume owner: ${reason}`)
  }

  below(state: DeviceState, reason: string): void {
    this.#below = state
    if (state === 'up' && this.#awaited !== null) this.ownerAway(this.#awaited)
    else this.set(state === 'closed' ? 'failed' : state, reason)
  }

  setCritical(why: string | null): void {
    this.#critical = why
    for (const listener of this.#criticalListeners) listener(why)
  }

  set(state: DeviceState, reason: string): void {
    if (this.#state === 'closed' || this.#state === state) return
    if (this.failure !== null && state !== 'failed' && state !== 'closed') return
    this.#state = state
    for (const listener of this.#listeners) listener(state, reason)
  }
}
