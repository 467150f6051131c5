// Requests that wait for their answer: each ends exactly once, by a reply, a failure or its deadline.
import type { Environment, Timer } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import type { ActorAddress, Message } from './message.ts'

/** Past this many, a request fails at once with `too-many-requests`. */
export const MAX_PENDING_REQUESTS = 65_536

export interface Pending {
  readonly seq: number
  readonly kind: string
  readonly from: ActorAddress
  readonly to: ActorAddress
  /** The route the request left by, so that its loss fails the request. */
  route: object | null
  readonly settle: (reply: Message) => void
  readonly timer: Timer
}

export class PendingRequests {
  readonly #env: Environment
  readonly #bySeq = new Map<number, Pending>()
  readonly #onDeadline: (pending: Pending, error: StellwerkError) => void

  constructor(env: Environment, onDeadline: (pending: Pending, error: StellwerkError) => void) {
    this.#env = env
    this.#onDeadline = onDeadline
  }

  get size(): number {
    return this.#bySeq.size
  }

  /** False when the bound is reached. */
  add(message: Message, deadlineMs: number, settle: (reply: Message) => void): boolean {
    if (this.#bySeq.size >= MAX_PENDING_REQUESTS) return false
    const timer = this.#env.timers.after(deadlineMs, () => {
      const pending = this.#bySeq.get(message.seq)
      if (pending === undefined) return
      this.#onDeadline(pending, deadlineError(pending.kind, pending.to, deadlineMs))
    })
    const { seq, kind, from, to } = message
    this.#bySeq.set(seq, { seq, kind, from, to, route: null, settle, timer })
    return true
  }

  /** The request that `reply` answers, which then waits no more; null if none does (late, or never asked of its sender). */
  take(reply: Message): Pending | null {
    if (reply.re === undefined) return null
    const pending = this.#bySeq.get(reply.re)
    if (pending === undefined || pending.to !== reply.from || pending.from !== reply.to) return null
    this.#bySeq.delete(pending.seq)
    pending.timer.cancel()
    return pending
  }

  markRoute(seq: number, route: object): void {
    const pending = this.#bySeq.get(seq)
    if (pending !== undefined) pending.route = route
  }

  /** In the order they were asked. */
  overRoute(route: object): Pending[] {
    return [...this.#bySeq.values()].filter(pending => pending.route === route)
  }

  all(): Pending[] {
    return [...this.#bySeq.values()]
  }
}

export function deadlineError(kind: string, to: ActorAddress, deadlineMs: number): StellwerkError {
  return new StellwerkError('deadline', `no answer to ${kind} within ${deadlineMs} ms`, { where: to, retryable: true })
}
