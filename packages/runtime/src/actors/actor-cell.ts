// One actor as the system holds it: its behaviour, its share of the queue, its timers and its restarts.
import { AssertionFailure, assert } from '../assert.ts'
import type { Cause, Environment, Timer } from '../environment.ts'
import type {
  ActorAddress,
  ActorContext,
  Behavior,
  Message,
  SendOptions,
  SpawnOptions,
  Supervision,
} from './message.ts'

export const DEFAULT_MAILBOX = 1024
/** Timers one actor may have running: more is a leak. */
export const MAX_TIMERS = 4096
/** An actor that crashes more often within the window is not restarted but escalated. */
export const MAX_RESTARTS = 10
export const RESTART_WINDOW_MS = 60_000

/** What a cell needs of its system. */
export interface CellHost {
  readonly env: Environment
  send(to: ActorAddress, kind: string, body: unknown, options: SendOptions): number
  reply(to: Message, from: ActorAddress, body: unknown): void
  fail(to: Message, from: ActorAddress, error: unknown): void
  fireTimer(cell: ActorCell, kind: string, body: unknown, cause: Cause | undefined): void
  stop(cell: ActorCell): void
}

export class ActorCell implements ActorContext {
  readonly self: ActorAddress
  readonly mailbox: number
  readonly supervision: Supervision
  /** Messages in the queue for this actor, those that bypass the bound included. */
  waiting = 0
  stopped = false
  /** The cause of the message being handled. */
  cause: Cause | undefined
  readonly #host: CellHost
  readonly #make: () => Behavior
  #behavior: Behavior
  readonly #timers = new Set<Timer>()
  #restarts: number[] = []

  constructor(host: CellHost, self: ActorAddress, behavior: Behavior | (() => Behavior), options: SpawnOptions) {
    this.#host = host
    this.self = self
    this.mailbox = options.mailbox ?? DEFAULT_MAILBOX
    this.supervision = options.supervision ?? 'escalate'
    this.#make = typeof behavior === 'function' ? behavior : () => behavior
    this.#behavior = this.#make()
  }

  get env(): Environment {
    return this.#host.env
  }

  get behavior(): Behavior {
    return this.#behavior
  }

  send(to: ActorAddress, kind: string, body: unknown, options: Omit<SendOptions, 'from'> = {}): number {
    const cause = options.cause ?? this.cause
    return this.#host.send(to, kind, body, { ...options, from: this.self, ...(cause === undefined ? {} : { cause }) })
  }

  request(to: ActorAddress, kind: string, body: unknown, deadlineMs: number): number {
    return this.send(to, kind, body, { deadlineMs })
  }

  reply(to: Message, body: unknown): void {
    this.#host.reply(to, this.self, body)
  }

  fail(to: Message, error: unknown): void {
    // An assertion is a bug of this process, not an answer.
    if (error instanceof AssertionFailure) throw error
    this.#host.fail(to, this.self, error)
  }

  after(delayMs: number, kind: string, body: unknown): Timer {
    assert(!this.stopped, `a stopped actor sets no timer: ${this.self}`)
    assert(this.#timers.size < MAX_TIMERS, `too many timers in ${this.self}`)
    const { cause } = this
    const inner = this.env.timers.after(delayMs, () => {
      this.#timers.delete(timer)
      this.#host.fireTimer(this, kind, body, cause)
    })
    const timer: Timer = {
      cancel: () => {
        this.#timers.delete(timer)
        inner.cancel()
      },
    }
    this.#timers.add(timer)
    return timer
  }

  stop(): void {
    this.#host.stop(this)
  }

  cancelTimers(): void {
    for (const timer of [...this.#timers]) timer.cancel()
  }

  /** Takes a new behaviour, or gives false when it has crashed too often for that. */
  renew(): boolean {
    const now = this.env.clock.now()
    this.#restarts = this.#restarts.filter(at => at > now - RESTART_WINDOW_MS)
    if (this.#restarts.length >= MAX_RESTARTS) return false
    this.#restarts.push(now)
    this.#behavior = this.#make()
    return true
  }
}
