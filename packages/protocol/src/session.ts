// A session: two processes that have greeted each other (handshake.ts) exchange notices, requests and replies over one
// link. It checks and traces every message, ends a link that carries nonsense, and answers every request once.

import { errorOf, failureOf } from '@stellwerk/runtime/actors/failure.ts'
import { AssertionFailure, assert } from '@stellwerk/runtime/assert.ts'
import type { Environment, Json, LinkClass, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Codec } from './codec.ts'
import { type Envelope, MAX_DEADLINE_MS } from './envelope.ts'
import type { Registry, Sender, SendOptions } from './messages/family.ts'
import type { Role } from './messages/handshake.ts'
import { REPLY_ROOM, type SessionPort } from './session-port.ts'
import type { TermGuard } from './term-guard.ts'

/** Requests of ours without an answer; one more fails with `too-many-requests`. */
export const MAX_PENDING = 4096
/** Requests of theirs we have not answered; one more is answered with `busy`. */
export const MAX_SERVING = 4096
/** Messages that may come before `onMessage` was called. */
export const MAX_HELD = 1024

/** Who we are, to the other side. */
export interface Identity {
  readonly cluster: string
  readonly node: string
  readonly role: Role
  readonly incarnation: number
  /** Of a host's processes: which guardian they are of. */
  readonly guardian?: string
  readonly credential: string
}

/** Who the other side is. */
export interface Peer {
  readonly node: string
  readonly role: Role
  readonly incarnation: number
  /** Of the link, for logs. */
  readonly address: string
}

/** The answer to one message. Requests (`wanted`) are answered once, by either; a notice can only fail. */
export interface Reply {
  readonly wanted: boolean
  ok(body: unknown): void
  fail(error: unknown): void
}

export type MessageHandler = (envelope: Envelope, reply: Reply) => void
export type Done = (error: StellwerkError | null, body: unknown, envelope: Envelope | null) => void

/** What dialSession and acceptSession pass on. */
export interface SessionOptions {
  readonly registry?: Registry
  /** Refuses messages of a coordinator that has been replaced. */
  readonly terms?: TermGuard
}

export interface SessionParts {
  readonly env: Environment
  readonly port: SessionPort
  readonly codec: Codec
  readonly registry: Registry
  readonly terms: TermGuard | undefined
  readonly self: string
  readonly peer: Peer
  readonly version: number
  /** The last `seq` sent and received by the handshake. */
  readonly sentSeq: number
  readonly receivedSeq: number
}

interface PendingRequest {
  readonly kind: string
  readonly done: Done
  readonly timer: Timer
}

export class Session implements Sender {
  readonly peer: Peer
  readonly version: number
  readonly class: LinkClass
  readonly counters = { lateReplies: 0, busy: 0, staleTerms: 0, failedNotices: 0 }
  readonly #parts: SessionParts
  readonly #env: Environment
  readonly #port: SessionPort
  readonly #pending = new Map<number, PendingRequest>()
  readonly #serving = new Map<number, SessionReply>()
  #held: Envelope[] = []
  #handler: MessageHandler | null = null
  #onFailure: ((envelope: Envelope) => void) | null = null
  readonly #closeListeners: ((code: string, reason: string) => void)[] = []
  #closing: { readonly code: string; readonly reason: string } | null = null
  #sentSeq: number
  #receivedSeq: number

  constructor(parts: SessionParts) {
    this.#parts = parts
    this.#env = parts.env
    this.#port = parts.port
    this.peer = parts.peer
    this.version = parts.version
    this.class = parts.port.class
    this.#sentSeq = parts.sentSeq
    this.#receivedSeq = parts.receivedSeq
    parts.port.onFrame = frame => this.#receive(frame)
    parts.port.onClose = (code, reason) => this.#ended(code, reason)
  }

  get closed(): boolean {
    return this.#closing !== null
  }

  /** The `seq` of what was sent last: what a failure of it names in `re`. */
  get lastSentSeq(): number {
    return this.#sentSeq
  }

  /** Bytes that wait for the link's credit. */
  get queuedBytes(): number {
    return this.#port.queuedBytes
  }

  /** Throws `frame-too-large` for a body that no frame of this link's class can hold. */
  send(kind: string, body: unknown, options: SendOptions = {}): boolean {
    assert(this.#parts.registry.get(kind)?.reply == null, `${kind} is answered: request it`)
    if (this.closed || !this.#port.hasRoom()) return false
    this.#transmit({ kind, body, ...options })
    return true
  }

  request(kind: string, body: unknown, deadlineMs: number, options: SendOptions = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.requestWith(kind, body, deadlineMs, options, (error, reply) =>
        error === null ? resolve(reply) : reject(error),
      )
    })
  }

  /** As `request`, with a callback that runs in order with the messages around the reply. */
  requestWith(kind: string, body: unknown, deadlineMs: number, options: SendOptions, done: Done): void {
    assert(deadlineMs > 0 && deadlineMs <= MAX_DEADLINE_MS, `not a deadline: ${deadlineMs}`)
    assert(this.#parts.registry.get(kind)?.reply != null, `${kind} is not answered: send it`)
    if (this.#closing !== null) {
      done(linkLost(this.peer, this.#closing), null, null)
      return
    }
    if (this.#pending.size >= MAX_PENDING) {
      const message = `${MAX_PENDING} requests to ${this.peer.node} wait for an answer`
      done(new StellwerkError('too-many-requests', message, { retryable: true }), null, null)
      return
    }
    if (!this.#port.hasRoom()) {
      const message = `the link to ${this.peer.node} takes no more`
      done(new StellwerkError('link-busy', message, { where: this.peer.address, retryable: true }), null, null)
      return
    }
    const seq = this.#sentSeq + 1
    const timer = this.#env.timers.after(deadlineMs, () => {
      this.#pending.delete(seq)
      const message = `no answer to ${kind} within ${deadlineMs} ms`
      done(new StellwerkError('deadline', message, { where: this.peer.node, retryable: true }), null, null)
    })
    this.#pending.set(seq, { kind, done, timer })
    try {
      this.#transmit({ kind, body, deadlineMs, ...options })
    } catch (error) {
      this.#pending.delete(seq)
      timer.cancel()
      if (!(error instanceof StellwerkError)) throw error
      done(error, null, null)
    }
  }

  /** One handler; what came before it was set is delivered to it now, in order. */
  onMessage(handler: MessageHandler): void {
    this.#handler = handler
    const held = this.#held
    this.#held = []
    for (const envelope of held) if (!this.closed) this.#deliver(envelope)
  }

  /** One handler for notices of ours that failed at the other side; without one they are logged. */
  onFailure(handler: (envelope: Envelope) => void): void {
    this.#onFailure = handler
  }

  /** Called once, whoever closed; at once if that has happened. */
  onClose(listener: (code: string, reason: string) => void): void {
    if (this.#closing !== null) listener(this.#closing.code, this.#closing.reason)
    else this.#closeListeners.push(listener)
  }

  /**
   * Gives the link up for other use (bulk-stream.ts): what comes on it is no message any more. Both sides do so after
   * the same exchange. The session counts as closed; its close listeners are not called.
   */
  detach(): SessionPort {
    assert(!this.closed, 'a closed session has no link')
    assert(this.#pending.size === 0, 'requests are waiting for their answers')
    this.#closing = { code: 'detached', reason: 'the link is used for bulk bytes' }
    this.#serving.clear()
    this.#held = []
    return this.#port
  }

  /** Idempotent. Pending requests fail with `link-lost`. */
  close(code = 'closed', reason = 'closed by this side'): void {
    this.#port.close(code, reason)
  }

  // --- out -------------------------------------------------------------------------------------------------------------

  #transmit(message: Outgoing): void {
    const { env, codec, self } = this.#parts
    const { kind, body, re, term, deadlineMs, error } = message
    const from = message.from ?? self
    const to = message.to ?? this.peer.node
    const seq = this.#sentSeq + 1
    let { cause } = message
    // The stamp and the sent record come first, since the envelope names the record as its cause.
    if (env.trace.on('message')) {
      cause = env.trace.emit({
        level: 'message',
        kind: 'message.sent',
        ...(cause === undefined ? {} : { cause }),
        ...idsOf(body),
        body: {
          kind,
          from,
          to,
          seq,
          ...(re === undefined ? {} : { re }),
          ...(error === undefined ? {} : { code: error.code }),
        },
      })
    }
    const frame = codec.encode({
      v: this.version,
      kind,
      from,
      to,
      seq,
      ...(re === undefined ? {} : { re }),
      ...(cause === undefined ? {} : { cause }),
      ...(term === undefined ? {} : { term }),
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
      ...(error === undefined ? {} : { error }),
      hlc: env.trace.stamp(),
      body,
    })
    this.#sentSeq = seq
    this.#port.send(frame)
  }

  /** Used by SessionReply. */
  answer(request: SessionReply, body: unknown, error: unknown): void {
    if (request.wanted && !this.#serving.delete(request.envelope.seq)) return
    if (this.closed) return
    if (!this.#port.hasRoom(REPLY_ROOM)) {
      this.#port.close('peer-too-slow', `${this.#port.queuedBytes} bytes of answers wait for credit`)
      return
    }
    const { kind, seq, from, to, cause } = request.envelope
    const reply = { kind, re: seq, from: to, to: from, ...(cause === undefined ? {} : { cause }) }
    if (error !== undefined) {
      this.#transmit({ ...reply, body: null, error: failureOf(error) })
      return
    }
    try {
      this.#transmit({ ...reply, body })
    } catch (tooLarge) {
      if (errorCode(tooLarge) !== 'frame-too-large') throw tooLarge
      this.#transmit({ ...reply, body: null, error: failureOf(tooLarge) })
    }
  }

  // --- in --------------------------------------------------------------------------------------------------------------

  #receive(frame: Uint8Array): void {
    let envelope: Envelope
    try {
      envelope = this.#decode(frame)
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      this.#env.log.warn({ peer: this.peer.node, address: this.peer.address, code: error.code }, error.message)
      this.#port.close(error.code, error.message)
      return
    }
    if (envelope.re !== undefined) {
      this.#settle(envelope, envelope.re)
      return
    }
    if (this.#handler !== null) {
      this.#deliver(envelope)
      return
    }
    if (this.#held.length >= MAX_HELD) {
      this.#port.close('protocol-error', 'too many messages before anybody listens')
      return
    }
    this.#held.push(envelope)
  }

  #decode(frame: Uint8Array): Envelope {
    const envelope = this.#parts.codec.decode(frame)
    const { v, kind, from, to, seq, re, cause, error, body } = envelope
    if (v !== this.version || kind.startsWith('session.')) {
      throw new StellwerkError('protocol-error', `${kind} at version ${v} in a session of version ${this.version}`)
    }
    if (seq !== this.#receivedSeq + 1) {
      throw new StellwerkError('protocol-error', `message ${seq} after ${this.#receivedSeq}`)
    }
    this.#receivedSeq = seq
    const { trace } = this.#env
    trace.observe(envelope.hlc)
    if (!trace.on('message')) return envelope
    const received = trace.emit({
      level: 'message',
      kind: 'message.received',
      ...(cause === undefined ? {} : { cause }),
      ...idsOf(body),
      body: {
        kind,
        from,
        to,
        seq,
        bytes: frame.byteLength,
        ...(re === undefined ? {} : { re }),
        ...(error === undefined ? {} : { code: error.code }),
      },
    })
    return { ...envelope, cause: received }
  }

  #settle(envelope: Envelope, re: number): void {
    const pending = this.#pending.get(re)
    if (pending === undefined || pending.kind !== envelope.kind) {
      if (envelope.error === undefined) this.counters.lateReplies += 1
      else this.#failed(envelope)
      return
    }
    this.#pending.delete(re)
    pending.timer.cancel()
    if (envelope.error === undefined) pending.done(null, envelope.body, envelope)
    else pending.done(errorOf(envelope.error), null, envelope)
  }

  #failed(envelope: Envelope): void {
    this.counters.failedNotices += 1
    if (this.#onFailure !== null) {
      this.#onFailure(envelope)
      return
    }
    const { kind, error } = envelope
    this.#env.log.warn({ kind, peer: this.peer.node, code: error?.code }, `a message failed there: ${error?.message}`)
  }

  #deliver(envelope: Envelope): void {
    const wanted = this.#parts.registry.get(envelope.kind)?.reply != null
    const deadlineAt = this.#env.clock.now() + (envelope.deadlineMs ?? MAX_DEADLINE_MS)
    const reply = new SessionReply(this, envelope, wanted, deadlineAt)
    if (wanted) {
      if (this.#serving.size >= MAX_SERVING) this.#forgetExpired()
      if (this.#serving.size >= MAX_SERVING) {
        this.counters.busy += 1
        const busy = new StellwerkError('busy', `${MAX_SERVING} requests are being served`, { retryable: true })
        this.#serving.set(envelope.seq, reply)
        reply.fail(busy)
        return
      }
      this.#serving.set(envelope.seq, reply)
    }
    const stale = envelope.term === undefined ? null : (this.#parts.terms?.check(envelope.term) ?? null)
    if (stale !== null) {
      this.counters.staleTerms += 1
      reply.fail(stale)
      return
    }
    try {
      this.#handler?.(envelope, reply)
    } catch (error) {
      if (error instanceof AssertionFailure || reply.answered) throw error
      this.#env.log.warn({ kind: envelope.kind, code: errorCode(error) }, `a message failed: ${errorMessage(error)}`)
      reply.fail(error)
    }
  }

  /** Requests nobody waits for any more: the handler may still answer, into the void. */
  #forgetExpired(): void {
    const now = this.#env.clock.now()
    for (const [seq, reply] of this.#serving) if (reply.deadlineAt < now) this.#serving.delete(seq)
  }

  #ended(code: string, reason: string): void {
    this.#closing = { code, reason }
    this.#serving.clear()
    this.#held = []
    const error = linkLost(this.peer, this.#closing)
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { timer } of pending) timer.cancel()
    for (const { done } of pending) done(error, null, null)
    for (const listener of this.#closeListeners.splice(0)) listener(code, reason)
  }
}

type Outgoing = Omit<Partial<Envelope>, 'kind' | 'hlc'> & { readonly kind: string; readonly body: unknown }

class SessionReply implements Reply {
  readonly wanted: boolean
  readonly envelope: Envelope
  readonly deadlineAt: number
  answered = false
  readonly #session: Session

  constructor(session: Session, envelope: Envelope, wanted: boolean, deadlineAt: number) {
    this.#session = session
    this.envelope = envelope
    this.wanted = wanted
    this.deadlineAt = deadlineAt
  }

  ok(body: unknown): void {
    assert(this.wanted, `${this.envelope.kind} is not answered`)
    this.#once()
    this.#session.answer(this, body, undefined)
  }

  fail(error: unknown): void {
    if (error instanceof AssertionFailure) throw error
    this.#once()
    this.#session.answer(this, null, error)
  }

  #once(): void {
    assert(!this.answered, `${this.envelope.kind} is answered twice`)
    this.answered = true
  }
}

function linkLost(peer: Peer, closing: { readonly code: string; readonly reason: string }): StellwerkError {
  const message = `the link to ${peer.node} is gone: ${closing.reason || closing.code}`
  return new StellwerkError('link-lost', message, { where: peer.address, retryable: true })
}

const ID_FIELDS = ['host', 'vm', 'volume', 'disk', 'migration'] as const

/** The ids a body names, so that a trace can be filtered by them. */
function idsOf(body: unknown): Partial<Record<(typeof ID_FIELDS)[number], string>> {
  if (typeof body !== 'object' || body === null) return {}
  const ids: Partial<Record<(typeof ID_FIELDS)[number], string>> = {}
  for (const field of ID_FIELDS) {
    const value = (body as Readonly<Record<string, Json>>)[field]
    if (typeof value === 'string') ids[field] = value
  }
  return ids
}
