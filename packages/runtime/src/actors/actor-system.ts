// The actors of one process: addresses, mailboxes, one message at a time, supervision, and the way to actors elsewhere.
// It knows nothing of the wire: a session is bound to it as a route (protocol/session-bridge.ts).
import { AssertionFailure, assert } from '../assert.ts'
import type { Cause, Environment } from '../environment.ts'
import { errorCode, errorMessage, StellwerkError } from '../errors.ts'
import { ActorCell, type CellHost } from './actor-cell.ts'
import { errorOf, failureOf } from './failure.ts'
import type { ActorAddress, Behavior, Message, Remote, Route, SendOptions, SpawnOptions } from './message.ts'
import { type Pending, PendingRequests } from './pending.ts'
import { MAX_ROUTES, parentOf, RouteTable } from './routes.ts'

/** Messages handled before the event loop gets a turn, so that actors that talk a lot don't starve the links. */
export const DISPATCH_BATCH = 512

export interface ActorSystemOptions {
  readonly env: Environment
  /** Prefixes whose addresses live here unless a longer route says otherwise: `host-a`, `coordinator`. */
  readonly local?: readonly string[]
  /** An assertion failed, or a crash reached the top. Called once; nothing is dispatched any more. Default: log and exit. */
  readonly onFatal?: (error: unknown, where: ActorAddress) => void
}

export interface ActorSystemCounters {
  readonly mailboxFull: number
  /** Failures that no actor was there to hear (also logged). */
  readonly undeliverable: number
  /** Answers that came after their deadline, or that nobody asked for. */
  readonly lateReplies: number
  readonly crashes: number
}

interface SystemRoute {
  readonly remote: Remote
}

type Item =
  | { readonly cell: ActorCell; readonly message: Message }
  | { readonly cell: ActorCell; readonly crash: unknown; readonly from: ActorAddress }

export class ActorSystem {
  readonly env: Environment
  readonly counters = { mailboxFull: 0, undeliverable: 0, lateReplies: 0, crashes: 0 } satisfies ActorSystemCounters
  readonly #cells = new Map<ActorAddress, ActorCell>()
  readonly #routes = new RouteTable<SystemRoute>()
  readonly #pending: PendingRequests
  readonly #onFatal: (error: unknown, where: ActorAddress) => void
  readonly #host: CellHost
  #queue: Item[] = []
  #head = 0
  #scheduled = false
  #seq = 0
  #ended = false

  constructor(options: ActorSystemOptions) {
    this.env = options.env
    this.#onFatal =
      options.onFatal ??
      ((error, where) => {
        this.env.log.error({ where, code: errorCode(error), error }, `fatal: ${errorMessage(error)}`)
        this.env.processes.exit(70)
      })
    this.#pending = new PendingRequests(this.env, (pending, error) => this.#failPending(pending, error))
    for (const prefix of options.local ?? []) this.#routes.addLocal(prefix)
    this.#host = {
      env: this.env,
      send: (to, kind, body, sendOptions) => this.send(to, kind, body, sendOptions),
      reply: (to, from, body) => this.reply(to, body, from),
      fail: (to, from, error) => this.fail(to, error, from),
      fireTimer: (cell, kind, body, cause) => this.#fireTimer(cell, kind, body, cause),
      stop: cell => this.#stopCell(cell),
    }
  }

  /** `started` runs before this returns. */
  spawn(address: ActorAddress, behavior: Behavior | (() => Behavior), options: SpawnOptions = {}): void {
    assert(!this.#ended, `nothing is spawned on an ended system: ${address}`)
    assert(!this.#cells.has(address), `the address is taken: ${address}`)
    const cell = new ActorCell(this.#host, address, behavior, options)
    this.#cells.set(address, cell)
    this.#start(cell)
  }

  has(address: ActorAddress): boolean {
    return this.#cells.has(address)
  }

  /** Addresses in the order they were spawned. */
  get addresses(): readonly ActorAddress[] {
    return [...this.#cells.keys()]
  }

  /** Messages waiting, and requests without an answer. */
  get load(): { readonly queued: number; readonly pending: number } {
    return { queued: this.#queue.length - this.#head, pending: this.#pending.size }
  }

  stopActor(address: ActorAddress): void {
    const cell = this.#cells.get(address)
    if (cell !== undefined) this.#stopCell(cell)
  }

  /** A `seq` for a message that a route hands to `deliver`. */
  nextSeq(): number {
    this.#seq += 1
    return this.#seq
  }

  /** Returns the message's `seq`. Failures come back to `from` as messages, whether the receiver is local or not. */
  send(to: ActorAddress, kind: string, body: unknown, options: SendOptions = {}): number {
    const message = this.#message(to, kind, body, options)
    if (options.deadlineMs === undefined || options.re !== undefined) {
      this.#submit(message)
      return message.seq
    }
    this.#request(message, options.deadlineMs, reply => {
      const cell = this.#cells.get(message.from)
      if (cell !== undefined) this.#enqueue(cell, reply)
      else if (reply.error !== undefined) this.#undeliverable(reply)
    })
    return message.seq
  }

  /** For code that awaits. Rejects with a StellwerkError: `deadline`, `no-such-actor`, `link-lost`, or the other's own. */
  ask(
    from: ActorAddress,
    to: ActorAddress,
    kind: string,
    body: unknown,
    deadlineMs: number,
    options: Omit<SendOptions, 'from' | 're' | 'deadlineMs'> = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const message = this.#message(to, kind, body, { ...options, from, deadlineMs })
      this.#request(message, deadlineMs, reply => {
        if (reply.error === undefined) resolve(reply.body)
        else reject(errorOf(reply.error))
      })
    })
  }

  reply(to: Message, body: unknown, from: ActorAddress = to.to): void {
    this.#submit(this.#message(to.from, to.kind, body, { from, re: to.seq, ...(to.cause && { cause: to.cause }) }))
  }

  fail(to: Message, error: unknown, from: ActorAddress = to.to): void {
    this.#submit({ ...this.#message(to.from, to.kind, null, { from, re: to.seq }), error: failureOf(error) })
  }

  /** Everything below `prefix` (whole segments; `''`: everything) that is not local goes to `remote`. */
  route(prefix: string, remote: Remote): Route {
    assert(this.#routes.size < MAX_ROUTES, 'too many routes')
    const route: SystemRoute = { remote }
    const former = this.#routes.add(prefix, route)
    if (former !== undefined) this.#loseRoute(former, linkLost(prefix, 'replaced by a newer one'))
    return {
      remove: error => {
        if (this.#routes.has(prefix, route)) this.#routes.remove(prefix)
        this.#loseRoute(route, error ?? linkLost(prefix, 'closed'))
      },
    }
  }

  /** What a route received for a local actor; its `seq` from `nextSeq()`. Never sent on to another route. */
  deliver(message: Message): void {
    if (this.#ended) return
    if (message.re !== undefined) this.#settle(message)
    else this.#accept(message, this.#cells.get(message.to))
  }

  /** Ends in order: every actor is stopped, every request fails with `stopped`. */
  stop(): void {
    if (this.#ended) return
    for (const cell of [...this.#cells.values()].reverse()) this.#stopCell(cell)
    this.#end()
  }

  // --- the way of a message --------------------------------------------------------------------------------------------

  #message(to: ActorAddress, kind: string, body: unknown, options: SendOptions): Message {
    const { from, cause, term, re, deadlineMs } = options
    return {
      kind,
      from: from ?? this.env.name,
      to,
      seq: this.nextSeq(),
      ...(re === undefined ? {} : { re }),
      ...(cause === undefined ? {} : { cause }),
      ...(term === undefined ? {} : { term }),
      deadlineAt: deadlineMs === undefined ? null : this.env.clock.now() + deadlineMs,
      body,
    }
  }

  #request(message: Message, deadlineMs: number, settle: (reply: Message) => void): void {
    if (this.#ended) {
      settle(this.#failure(message, new StellwerkError('stopped', 'the process is ending')))
    } else if (!this.#pending.add(message, deadlineMs, settle)) {
      const error = new StellwerkError('too-many-requests', 'too many requests wait for an answer', { retryable: true })
      settle(this.#failure(message, error))
    } else this.#submit(message)
  }

  #submit(message: Message): void {
    if (this.#ended) return
    if (message.re !== undefined && this.#pending.size > 0 && this.#settleOwn(message)) return
    const cell = message.re === undefined ? this.#cells.get(message.to) : undefined
    if (cell !== undefined) {
      this.#accept(message, cell)
      return
    }
    const way = this.#routes.find(message.to)
    if (way === null || way === 'local') {
      if (message.re === undefined) this.#accept(message, undefined)
      else this.counters.lateReplies += 1
      return
    }
    if (message.deadlineAt !== null) this.#pending.markRoute(message.seq, way)
    if (way.remote.send(message)) return
    this.#bounce(
      message,
      new StellwerkError('link-busy', `the link to ${message.to} takes no more`, { retryable: true }),
    )
  }

  #accept(message: Message, cell: ActorCell | undefined): void {
    if (cell === undefined) {
      this.#bounce(message, noSuchActor(message.to))
    } else if (cell.waiting >= cell.mailbox) {
      this.counters.mailboxFull += 1
      const detail = `${cell.waiting} messages wait for ${message.to}`
      this.#bounce(message, new StellwerkError('mailbox-full', detail, { where: message.to, retryable: true }))
    } else this.#enqueue(cell, message)
  }

  /** Answers and timers bypass the mailbox's bound: each was paid for by a bounded request or timer. */
  #enqueue(cell: ActorCell, message: Message): void {
    cell.waiting += 1
    this.#push({ cell, message })
  }

  #settleOwn(reply: Message): boolean {
    const pending = this.#pending.take(reply)
    pending?.settle(reply)
    return pending !== null
  }

  #settle(reply: Message): void {
    if (this.#settleOwn(reply)) return
    // A one-way message that failed elsewhere: its sender hears of it, as it would of a local failure.
    if (reply.error !== undefined) this.#notify(reply)
    else this.counters.lateReplies += 1
  }

  #failure(message: Message, error: unknown): Message {
    const failure = this.#message(message.from, message.kind, null, { from: message.to, re: message.seq })
    return { ...failure, error: failureOf(error), ...(message.cause && { cause: message.cause }) }
  }

  #failPending(pending: Pending, error: unknown): void {
    const { seq, kind, from, to } = pending
    this.#settleOwn(this.#failure({ kind, from, to, seq, deadlineAt: null, body: null }, error))
  }

  /** The sender's failure of a message that could not be delivered. What is itself an answer never comes back. */
  #bounce(message: Message, error: StellwerkError): void {
    const failure = this.#failure(message, error)
    if (message.re !== undefined) {
      this.#undeliverable({ ...message, error: failureOf(error) })
      return
    }
    if (this.#settleOwn(failure)) return
    const way = this.#cells.has(failure.to) ? 'local' : this.#routes.find(failure.to)
    if (way === null || way === 'local') this.#notify(failure)
    else if (!way.remote.send(failure)) this.#undeliverable(failure)
  }

  /** Notices of one-way messages are bounded by twice the mailbox: their number has no other bound. */
  #notify(failure: Message): void {
    const cell = this.#cells.get(failure.to)
    if (cell === undefined || cell.waiting >= 2 * cell.mailbox) this.#undeliverable(failure)
    else this.#enqueue(cell, failure)
  }

  #undeliverable(failure: Message): void {
    this.counters.undeliverable += 1
    const count = this.counters.undeliverable
    // Powers of two: a flood of failures must not become a flood of log lines.
    if ((count & (count - 1)) !== 0) return
    const { kind, from, to, error } = failure
    this.env.log.warn({ kind, from, to, code: error?.code, count }, `nobody to tell: ${error?.message}`)
  }

  #loseRoute(route: SystemRoute, error: StellwerkError): void {
    for (const pending of this.#pending.overRoute(route)) this.#failPending(pending, error)
  }

  // --- dispatch --------------------------------------------------------------------------------------------------------

  #push(item: Item): void {
    if (this.#ended) return
    this.#queue.push(item)
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => this.#drain())
  }

  #drain(): void {
    let handled = 0
    while (this.#head < this.#queue.length && handled < DISPATCH_BATCH) {
      const item = this.#queue[this.#head]!
      this.#head += 1
      handled += 1
      this.#dispatch(item)
    }
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
    if (this.#head < this.#queue.length) {
      this.env.timers.after(0, () => this.#drain())
    } else {
      this.#queue.length = 0
      this.#head = 0
      this.#scheduled = false
    }
  }

  #dispatch(item: Item): void {
    const { cell } = item
    if ('crash' in item) {
      if (!cell.stopped) this.#crash(cell, item.crash)
      return
    }
    cell.waiting -= 1
    const { message } = item
    if (cell.stopped) {
      if (message.re === undefined && message.from !== cell.self) this.#bounce(message, noSuchActor(cell.self))
    } else if (message.re === undefined && message.deadlineAt !== null && message.deadlineAt < this.env.clock.now()) {
      // Its sender has been told `deadline`: work on it would be for nobody.
    } else {
      const error = this.#run(cell, message.cause, () => cell.behavior.receive(message, cell))
      if (error === null) return
      // A request must not hang because its receiver crashed.
      if (message.deadlineAt !== null && message.re === undefined && !(error.thrown instanceof AssertionFailure)) {
        const crashed = `${cell.self} crashed of ${message.kind}: ${errorMessage(error.thrown)}`
        this.#bounce(message, new StellwerkError('actor-crashed', crashed, { where: cell.self }))
      }
      this.#crash(cell, error.thrown)
    }
  }

  #run(cell: ActorCell, cause: Cause | undefined, step: () => void): { readonly thrown: unknown } | null {
    const outer = cell.cause
    cell.cause = cause
    try {
      this.env.trace.within(cause, step)
      return null
    } catch (thrown) {
      return { thrown }
    } finally {
      cell.cause = outer
    }
  }

  #fireTimer(cell: ActorCell, kind: string, body: unknown, cause: Cause | undefined): void {
    if (this.#ended || cell.stopped) return
    const options = { from: cell.self, ...(cause === undefined ? {} : { cause }) }
    this.#enqueue(cell, this.#message(cell.self, kind, body, options))
  }

  // --- life and death --------------------------------------------------------------------------------------------------

  #start(cell: ActorCell): void {
    const error = this.#run(cell, undefined, () => cell.behavior.started?.(cell))
    if (error !== null) this.#crash(cell, error.thrown)
  }

  #crash(cell: ActorCell, thrown: unknown): void {
    this.counters.crashes += 1
    if (thrown instanceof AssertionFailure) {
      this.#fatal(thrown, cell.self)
      return
    }
    const fields = { actor: cell.self, supervision: cell.supervision, code: errorCode(thrown), error: thrown }
    this.env.log.error(fields, `an actor crashed: ${errorMessage(thrown)}`)
    if (cell.supervision === 'restart') {
      this.#sayStopped(cell)
      if (this.#ended) return
      cell.cancelTimers()
      if (cell.renew()) {
        this.#start(cell)
        return
      }
    }
    this.#stopCell(cell)
    if (cell.supervision !== 'stop') this.#escalate(cell.self, thrown)
  }

  #escalate(from: ActorAddress, thrown: unknown): void {
    for (let address = parentOf(from); address !== null; address = parentOf(address)) {
      const ancestor = this.#cells.get(address)
      // Queued, since the ancestor may be running just now.
      if (ancestor !== undefined) {
        this.#push({ cell: ancestor, crash: thrown, from })
        return
      }
    }
    this.#fatal(thrown, from)
  }

  #stopCell(cell: ActorCell): void {
    if (cell.stopped) return
    cell.stopped = true
    this.#cells.delete(cell.self)
    cell.cancelTimers()
    this.#sayStopped(cell)
  }

  #sayStopped(cell: ActorCell): void {
    const error = this.#run(cell, undefined, () => cell.behavior.stopped?.(cell))
    if (error === null) return
    if (error.thrown instanceof AssertionFailure) {
      this.#fatal(error.thrown, cell.self)
      return
    }
    this.env.log.error({ actor: cell.self, error: error.thrown }, `stopped() failed: ${errorMessage(error.thrown)}`)
  }

  #fatal(thrown: unknown, where: ActorAddress): void {
    if (this.#ended) return
    for (const cell of this.#cells.values()) cell.cancelTimers()
    this.#end()
    this.#onFatal(thrown, where)
  }

  #end(): void {
    this.#ended = true
    this.#queue.length = 0
    this.#head = 0
    for (const pending of this.#pending.all()) {
      this.#failPending(pending, new StellwerkError('stopped', 'the process is ending'))
    }
  }
}

const noSuchActor = (address: ActorAddress): StellwerkError =>
  new StellwerkError('no-such-actor', `there is no ${address}`, { where: address })

const linkLost = (prefix: string, why: string): StellwerkError =>
  new StellwerkError('link-lost', `the link to ${prefix} is gone (${why})`, { where: prefix, retryable: true })
