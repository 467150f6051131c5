// Joins actors to a session: what local actors send to addresses below the other side's prefix goes out, what comes in for
// local actors is delivered, and answers find their way back. So an actor never knows whether another is local.

import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import { errorOf, failureOf } from '@stellwerk/runtime/actors/failure.ts'
import type { Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Envelope } from './envelope.ts'
import type { Reply, Session } from './session.ts'

export interface BridgeOptions {
  /** The addresses that live behind the session. A message from any other is refused with `wrong-sender`. */
  readonly remotePrefix: string
  /** Further prefixes whose messages may come over this session (what the other side relays). */
  readonly alsoFrom?: readonly string[]
}

/** Notices remembered for a failure that may come back for them, each way. */
export const MAX_REMEMBERED_NOTICES = 1024

/** Takes over `session.onMessage` and `onFailure`; ends by itself when the session closes. Gives the way to end it before. */
export function bindSession(system: ActorSystem, session: Session, options: BridgeOptions): () => void {
  const prefixes = [options.remotePrefix, ...(options.alsoFrom ?? [])]
  /** Who waits for the local actors' answers, by the message's local seq. */
  const replies = new Map<number, Reply>()
  const notices = new RecentNotices()

  const deliverReply = (to: Message, body: unknown, error: StellwerkError | null, envelope: Envelope | null): void => {
    system.deliver({
      kind: to.kind,
      from: to.to,
      to: to.from,
      seq: system.nextSeq(),
      re: to.seq,
      ...(envelope?.cause && { cause: envelope.cause }),
      ...(envelope?.term !== undefined && { term: envelope.term }),
      deadlineAt: null,
      body,
      ...(error === null ? {} : { error: failureOf(error) }),
    })
  }

  const route = system.route(options.remotePrefix, {
    send: message => {
      if (message.re !== undefined) {
        const reply = replies.get(message.re)
        replies.delete(message.re)
        if (reply === undefined) return true // The session it came by is gone, and its asker was told so.
        if (message.error === undefined) reply.ok(message.body)
        else reply.fail(errorOf(message.error))
        return true
      }
      const { from, to, kind, body, cause, term, deadlineAt } = message
      const sendOptions = { from, to, ...(cause && { cause }), ...(term !== undefined && { term }) }
      if (deadlineAt === null) {
        try {
          const sent = session.send(kind, body, sendOptions)
          if (sent) notices.add(session.lastSentSeq, message)
          return sent
        } catch (error) {
          // Too large for a frame: its sender must hear that in the way it hears of any failure.
          if (!(error instanceof StellwerkError)) throw error
          deliverReply(message, null, error, null)
          return true
        }
      }
      const leftMs = Math.max(deadlineAt - system.env.clock.now(), 0.001)
      session.requestWith(kind, body, leftMs, sendOptions, (error, reply, envelope) => {
        // A deadline is the system's own affair: its timer says so in its own words.
        if (error?.code !== 'deadline' || envelope !== null) deliverReply(message, reply, error, envelope)
      })
      return true
    },
  })

  session.onMessage((envelope, reply) => {
    if (!prefixes.some(prefix => isBelow(envelope.from, prefix))) {
      const message = `${envelope.from} does not live behind ${session.peer.node}`
      return reply.fail(new StellwerkError('wrong-sender', message, { where: session.peer.address }))
    }
    const { kind, from, to, cause, term, deadlineMs, body } = envelope
    const seq = system.nextSeq()
    // Kept for notices too while they are delivered: a full mailbox or a missing actor answers at once.
    replies.set(seq, reply)
    system.deliver({
      kind,
      from,
      to,
      seq,
      ...(cause && { cause }),
      ...(term !== undefined && { term }),
      deadlineAt: reply.wanted && deadlineMs !== undefined ? system.env.clock.now() + deadlineMs : null,
      body,
    })
    if (!reply.wanted) replies.delete(seq)
  })

  session.onFailure(envelope => {
    const notice = notices.take(envelope.re ?? 0)
    if (notice !== undefined && envelope.error !== undefined)
      deliverReply(notice, null, errorOf(envelope.error), envelope)
  })

  let bound = true
  const unbind = (): void => {
    if (!bound) return
    bound = false
    replies.clear()
    route.remove()
  }
  session.onClose(unbind)
  return unbind
}

const isBelow = (address: string, prefix: string): boolean =>
  address === prefix || prefix === '' || (address.startsWith(prefix) && address[prefix.length] === '/')

/** The last notices sent, by the session's seq: older ones that fail are not told. */
class RecentNotices {
  readonly #bySeq = new Map<number, Message>()

  add(seq: number, message: Message): void {
    this.#bySeq.set(seq, message)
    if (this.#bySeq.size <= MAX_REMEMBERED_NOTICES) return
    for (const oldest of this.#bySeq.keys()) {
      this.#bySeq.delete(oldest)
      break
    }
  }

  take(seq: number): Message | undefined {
    const message = this.#bySeq.get(seq)
    this.#bySeq.delete(seq)
    return message
  }
}
