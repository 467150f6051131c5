// What every machine's life has in common: which state it is in, whom it tells, and which requests are in flight. It runs
// nothing itself.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Dead, MachineEvent, MachineState } from './hypervisor.ts'

/** Requests between a guest and its devices: a machine is dead or drained only when there is none. */
export class InFlight {
  #count = 0
  #waiters: (() => void)[] = []

  get count(): number {
    return this.#count
  }

  begin(): void {
    this.#count++
  }

  end(): void {
    assert(this.#count > 0, 'a request ended that was not in flight')
    this.#count--
    if (this.#count > 0) return
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }

  /** Resolves when nothing is in flight. */
  drained(): Promise<void> {
    if (this.#count === 0) return Promise.resolve()
    return new Promise(resolve => {
      this.#waiters.push(resolve)
    })
  }
}

/** What a machine says before anybody listens is kept for the first listener, up to this much. */
const MAX_EARLY_EVENTS = 1024

/**
 * The state, from independent facts: it was started; somebody holds it (freeze); a migration has paused it for good;
 * it is dead.
 */
export class Lifecycle {
  readonly vm: string
  #started = false
  #held = false
  #released = false
  #dead = false
  #death: Promise<Dead> | null = null
  readonly #listeners: ((event: MachineEvent) => void)[] = []
  #early: MachineEvent[] = []

  constructor(vm: string) {
    this.vm = vm
  }

  get state(): MachineState {
    if (this.#dead) return 'dead'
    if (!this.#started) return 'paused'
    return this.#held || this.#released ? 'frozen' : 'running'
  }

  /** Guest code may be executed, as far as the machine itself is concerned. */
  get runs(): boolean {
    return this.#started && !this.#held && !this.#released && !this.#dead
  }

  get dead(): boolean {
    return this.#dead
  }

  onEvent(f: (event: MachineEvent) => void): void {
    this.#listeners.push(f)
    const early = this.#early
    this.#early = []
    for (const event of early) f(event)
  }

  /** An arrived machine may speak before its owner has heard that it runs: nothing it says may be lost. */
  tell(event: MachineEvent): void {
    if (this.#listeners.length === 0 && this.#early.length < MAX_EARLY_EVENTS) this.#early.push(event)
    for (const listener of this.#listeners) listener(event)
  }

  start(): void {
    assert(!this.#dead, `${this.vm} was started after its death`)
    assert(!this.#started, `${this.vm} was started twice`)
    this.#started = true
  }

  /** Somebody holds it, whatever else does. */
  get held(): boolean {
    return this.#held
  }

  hold(): void {
    this.#held = true
  }

  unhold(): void {
    this.#held = false
  }

  /** A switch has paused it. */
  get released(): boolean {
    return this.#released
  }

  release(): void {
    this.#released = true
  }

  unrelease(): void {
    this.#released = false
  }

  /** True for the first who says so. */
  die(): boolean {
    if (this.#dead) return false
    this.#dead = true
    return true
  }

  /** One death, however often it is asked for. */
  death(reap: () => Promise<void>): Promise<Dead> {
    this.#death ??= reap().then(() => ({ vm: this.vm }))
    return this.#death
  }
}
