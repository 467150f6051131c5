// A session that comes back: dials, and after every loss dials again, with a growing and jittered pause in between. It is
// what an agent or guardian has to the coordinator and the storages. Nothing is kept over a loss: requests that waited
// fail with `link-lost`, and whoever sent them decides.
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Address, Environment, LinkClass, Random, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Sender, SendOptions } from './messages/family.ts'
import type { Identity, Session } from './session.ts'
import { dialSession, type HandshakeOptions } from './session-handshake.ts'

export interface Backoff {
  /** The first pause; each later one is twice as long, up to `maxMs`. A pause is between half of that and all of it. */
  readonly minMs: number
  readonly maxMs: number
}

/**
 * A connection that no machine takes is begun anew so soon: what it was sent to may have been down and be back, and would not know of it.
 * A program that is slow to answer has as long as the handshake.
 */
export const CONNECT_MS = 1_000

export const DEFAULT_BACKOFF: Backoff = { minMs: 100, maxMs: 2000 }

export interface PersistentSessionOptions {
  readonly env: Environment
  /** Asked at each attempt, as the other side may have moved. */
  readonly address: () => Address
  readonly class: LinkClass
  readonly identity: Identity
  readonly backoff?: Backoff
  readonly handshake?: HandshakeOptions
  /** Subscribe to the session's messages here. */
  readonly onUp: (session: Session) => void
  /** The session was lost (`link-lost`), after `onUp`. */
  readonly onDown?: (error: StellwerkError) => void
  /** An attempt failed; another follows in `retryMs`. A refusal is retried too: an operator may be mending it. */
  readonly onFailed?: (error: StellwerkError, retryMs: number) => void
}

export class PersistentSession implements Sender {
  readonly #options: PersistentSessionOptions
  readonly #env: Environment
  readonly #random: Random
  readonly #backoff: Backoff
  #state: 'idle' | 'dialing' | 'up' | 'waiting' | 'stopped' = 'idle'
  #session: Session | null = null
  #timer: Timer | null = null
  #attempts = 0
  #lastError: StellwerkError | null = null

  constructor(options: PersistentSessionOptions) {
    this.#options = options
    this.#env = options.env
    this.#backoff = options.backoff ?? DEFAULT_BACKOFF
    this.#random = options.env.random.fork(`backoff/${options.class}`)
  }

  /** The session, while it is up. */
  get session(): Session | null {
    return this.#session
  }

  get state(): 'idle' | 'dialing' | 'up' | 'waiting' | 'stopped' {
    return this.#state
  }

  /** Why it is not up, if an attempt or a session has failed. */
  get lastError(): StellwerkError | null {
    return this.#lastError
  }

  start(): void {
    assert(this.#state === 'idle', 'a persistent session is started once')
    this.#dial()
  }

  /** Final. */
  stop(): void {
    this.#state = 'stopped'
    this.#timer?.cancel()
    this.#session?.close('closed', 'this side is ending')
    this.#session = null
  }

  send(kind: string, body: unknown, options?: SendOptions): boolean {
    return this.#session?.send(kind, body, options) ?? false
  }

  request(kind: string, body: unknown, deadlineMs: number, options?: SendOptions): Promise<unknown> {
    if (this.#session !== null) return this.#session.request(kind, body, deadlineMs, options)
    const why = this.#lastError === null ? 'not connected yet' : this.#lastError.message
    return Promise.reject(new StellwerkError('link-lost', `no session: ${why}`, { retryable: true }))
  }

  #dial(): void {
    this.#state = 'dialing'
    const { address, identity, handshake } = this.#options
    dialSession(this.#env, address(), this.#options.class, identity, { connectMs: CONNECT_MS, ...handshake }).then(
      session => this.#up(session),
      (error: unknown) => this.#failed(error),
    )
  }

  #up(session: Session): void {
    if (this.#state === 'stopped') {
      session.close('closed', 'this side is ending')
      return
    }
    const since = this.#env.clock.now()
    this.#state = 'up'
    this.#session = session
    session.onClose((code, reason) => {
      if (this.#state === 'stopped') return
      this.#session = null
      // A session that falls down as soon as it stands must not be redialled at full speed.
      if (this.#env.clock.now() - since >= this.#backoff.maxMs) this.#attempts = 0
      const { node, address } = session.peer
      const message = `the link to ${node} is gone: ${reason || code}`
      const error = new StellwerkError('link-lost', message, { where: address, retryable: true })
      this.#wait(error)
      this.#options.onDown?.(error)
    })
    if (!session.closed) this.#options.onUp(session)
  }

  #failed(error: unknown): void {
    if (this.#state === 'stopped') return
    const coded = error instanceof StellwerkError ? error : new StellwerkError(errorCode(error), errorMessage(error))
    const retryMs = this.#wait(coded)
    this.#env.log.debug({ code: coded.code, retryMs }, `no session: ${coded.message}`)
    this.#options.onFailed?.(coded, retryMs)
  }

  #wait(error: StellwerkError): number {
    this.#lastError = error
    this.#state = 'waiting'
    const { minMs, maxMs } = this.#backoff
    const fullMs = Math.min(maxMs, minMs * 2 ** Math.min(this.#attempts, 30))
    this.#attempts += 1
    const retryMs = fullMs * (0.5 + this.#random.float() / 2)
    this.#timer = this.#env.timers.after(retryMs, () => this.#dial())
    return retryMs
  }
}
