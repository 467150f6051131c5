// The shapes actors are written against: messages, behaviours and their context. No code.
import type { Cause, Environment, Timer } from '../environment.ts'
import type { StellwerkError } from '../errors.ts'
import type { Failure } from './failure.ts'

/** `host-a/vm/web-1`, `coordinator/sequencer`: segments from the outside in. */
export type ActorAddress = string

/**
 * The only thing that passes between actors. A reply, and every kind of failure, is a message like any other: its `re`
 * is the `seq` of the message it answers, its kind that message's kind, and a failed one has `error` and a null body.
 */
export interface Message {
  readonly kind: string
  readonly from: ActorAddress
  readonly to: ActorAddress
  /** Unique in the receiving system: what a reply names in `re`. */
  readonly seq: number
  readonly re?: number
  readonly cause?: Cause
  readonly term?: number
  /** On this process's clock; null if nobody waits. */
  readonly deadlineAt: number | null
  readonly body: unknown
  readonly error?: Failure
}

export interface SendOptions {
  readonly from?: ActorAddress
  readonly cause?: Cause
  readonly term?: number
  /** Makes this a request: a reply or a failure comes within this time. */
  readonly deadlineMs?: number
  /** Makes this the reply to the message with that `seq`. */
  readonly re?: number
}

/** An actor's code. All methods are synchronous, and are never run while another of the same actor runs. */
export interface Behavior {
  started?(context: ActorContext): void
  receive(message: Message, context: ActorContext): void
  /** Last call: on a stop, and before a restart. */
  stopped?(context: ActorContext): void
}

/**
 * What happens when a behaviour throws. `restart`: a new behaviour takes over the address and the mailbox (give `spawn`
 * a function, so that no state survives); `stop`: the actor is gone and its mailbox fails; `escalate`: it is gone and its
 * nearest ancestor by address has crashed of it, or the process if there is none. An assertion always ends the process.
 */
export type Supervision = 'restart' | 'escalate' | 'stop'

export interface SpawnOptions {
  /** Messages waiting at most; default 1,024. One more fails at its sender with `mailbox-full`. */
  readonly mailbox?: number
  /** Default `escalate`. */
  readonly supervision?: Supervision
}

export interface ActorContext {
  readonly self: ActorAddress
  readonly env: Environment
  /** From this actor; `cause` defaults to that of the message being handled. Returns the message's `seq`. */
  send(to: ActorAddress, kind: string, body: unknown, options?: Omit<SendOptions, 'from'>): number
  /** As `send` with a deadline: exactly one message with `re` = the returned seq will follow, a reply or a failure. */
  request(to: ActorAddress, kind: string, body: unknown, deadlineMs: number): number
  reply(to: Message, body: unknown): void
  fail(to: Message, error: unknown): void
  /** A message from this actor to itself, later. Dies with the actor (or its restart). */
  after(delayMs: number, kind: string, body: unknown): Timer
  stop(): void
}

/** The way to actors elsewhere. False: it can't take the message now, and its sender gets `link-busy`. */
export interface Remote {
  send(message: Message): boolean
}

export interface Route {
  /** Idempotent. Requests that wait for an answer over this route fail with `error` (default `link-lost`). */
  remove(error?: StellwerkError): void
}
