// The server's side of message families: one handler a kind, whose result is the reply and whose error is the failure.
// For code that serves without actors (the storage subsystem, a peer's I/O link); actors have session-bridge.ts.
import { AssertionFailure, assert } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Envelope } from './envelope.ts'
import type { Family, Handlers, Specs } from './messages/family.ts'
import type { MessageHandler, Reply, Session } from './session.ts'

/** What a handler is told beside the body. */
export interface Call {
  readonly session: Session
  readonly envelope: Envelope
}

type AnyHandler = (body: unknown, call: Call) => unknown

export class Dispatcher {
  readonly #handlers = new Map<string, AnyHandler>()

  add<M extends Specs>(family: Family<M>, handlers: Handlers<M, Call>): this {
    for (const [kind, handler] of Object.entries(handlers)) {
      assert(family.messages[kind] !== undefined, `${family.name} has no ${kind}`)
      assert(!this.#handlers.has(kind), `${kind} has two handlers`)
      this.#handlers.set(kind, handler as AnyHandler)
    }
    return this
  }

  /** `session.onMessage(dispatcher.serve(session))`. */
  serve(session: Session): MessageHandler {
    return (envelope, reply) => {
      const handler = this.#handlers.get(envelope.kind)
      if (handler === undefined) {
        const message = `${envelope.kind} is not served here`
        reply.fail(new StellwerkError('not-served', message, { where: envelope.to }))
        return
      }
      // What throws synchronously is answered by the session.
      const result = handler(envelope.body, { session, envelope })
      if (result instanceof Promise)
        void result.then(
          body => finish(reply, body),
          (error: unknown) => failed(reply, error),
        )
      else finish(reply, result)
    }
  }
}

function finish(reply: Reply, body: unknown): void {
  if (reply.wanted) reply.ok(body)
}

function failed(reply: Reply, error: unknown): void {
  // Out of the promise, so that nothing takes a bug for an answer: the process ends of it.
  if (error instanceof AssertionFailure) throw error
  reply.fail(error)
}
