// Message families: a file of schemas each, from which types, checks, senders and handlers follow. Defining a family
// registers its kinds; what no imported family defines is an unknown kind, and ends the link it came on.
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Cause } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Static, TSchema } from '../schema/typebox.js'
import { Compile } from '../schema/typebox.js'

/** A message that is answered has a `reply`; one that is only told has none. */
export interface MessageSpec {
  readonly request: TSchema
  readonly reply?: TSchema
}

export type Specs = Readonly<Record<string, MessageSpec>>
export type Body<M extends Specs, K extends keyof M> = Static<M[K]['request']>
export type ReplyBody<M extends Specs, K extends keyof M> = M[K]['reply'] extends TSchema
  ? Static<M[K]['reply']>
  : never
/** The kinds that are answered, and those that are only told. */
export type RequestKind<M extends Specs> = { [K in keyof M]: M[K] extends { reply: TSchema } ? K : never }[keyof M] &
  string
export type NoticeKind<M extends Specs> = { [K in keyof M]: M[K] extends { reply: TSchema } ? never : K }[keyof M] &
  string

/** A compiled check of one schema. */
export interface Checker {
  readonly schema: TSchema
  check(value: unknown): boolean
  /** What does not fit, for an error's text. Slow. */
  explain(value: unknown): string
}

export interface RegisteredMessage {
  readonly kind: string
  readonly family: string
  readonly request: Checker
  readonly reply: Checker | null
}

/** Kinds a registry can hold; a family has tens. */
export const MAX_KINDS = 1024

export class Registry {
  readonly #byKind = new Map<string, RegisteredMessage>()

  add(family: string, specs: Specs): void {
    for (const [kind, spec] of Object.entries(specs)) {
      assert(kind.length <= 64 && /^[a-z][a-z0-9-]*(\.[a-z0-9-]+)+$/.test(kind), `not a kind: ${kind}`)
      assert(!this.#byKind.has(kind), `the kind ${kind} is defined twice`)
      assert(this.#byKind.size < MAX_KINDS, 'too many kinds')
      const reply = spec.reply === undefined ? null : compileChecker(spec.reply)
      this.#byKind.set(kind, { kind, family, request: compileChecker(spec.request), reply })
    }
  }

  get(kind: string): RegisteredMessage | undefined {
    return this.#byKind.get(kind)
  }

  /** Sorted by kind. */
  all(): readonly RegisteredMessage[] {
    return [...this.#byKind.values()].sort((a, b) => (a.kind < b.kind ? -1 : 1))
  }
}

/** What the processes of a cluster speak. */
export const registry = new Registry()

/** Compiled on first use: a process pays only for the messages it meets. */
export function compileChecker(schema: TSchema): Checker {
  let compiled: ReturnType<typeof Compile> | null = null
  const get = (): ReturnType<typeof Compile> => {
    compiled ??= Compile(schema)
    return compiled
  }
  return {
    schema,
    check: value => get().Check(value),
    explain: value => {
      const first = get().Errors(value)[0]
      return first === undefined ? 'does not fit' : `${first.instancePath || 'the body'} ${first.message}`
    },
  }
}

/** What a family needs of a session to send on it (session.ts); a persistent session is one too. */
export interface Sender {
  /** False: the session is gone, or its link has taken in too little for too long. Never queued past a bound. */
  send(kind: string, body: unknown, options?: SendOptions): boolean
  /** Rejects with a StellwerkError: `deadline`, `link-lost`, `link-busy`, or the other side's own. */
  request(kind: string, body: unknown, deadlineMs: number, options?: SendOptions): Promise<unknown>
}

export interface SendOptions {
  readonly from?: string
  readonly to?: string
  readonly cause?: Cause
  readonly term?: number
}

/** One handler a kind. What it returns, or resolves to, is the reply; what it throws is the failure. */
export type Handlers<M extends Specs, Context> = {
  readonly [K in keyof M]?: (
    body: Body<M, K>,
    context: Context,
  ) => M[K]['reply'] extends TSchema ? Static<M[K]['reply']> | Promise<Static<M[K]['reply']>> : void
}

export interface Family<M extends Specs> {
  readonly name: string
  readonly messages: M
  /** Asks and waits for the answer; rejects with a StellwerkError. */
  request<K extends RequestKind<M>>(
    to: Sender,
    kind: K,
    body: Body<M, K>,
    deadlineMs: number,
    options?: SendOptions,
  ): Promise<ReplyBody<M, K>>
  /** Tells; false when the session can't take it. */
  send<K extends NoticeKind<M>>(to: Sender, kind: K, body: Body<M, K>, options?: SendOptions): boolean
  /** The body as the kind's type: what came through `decode` has been checked. */
  body<K extends keyof M & string>(kind: K, message: { readonly kind: string; readonly body: unknown }): Body<M, K>
}

export function defineFamily<const M extends Specs>(name: string, messages: M, into: Registry = registry): Family<M> {
  into.add(name, messages)
  return {
    name,
    messages,
    request: (to, kind, body, deadlineMs, options) => to.request(kind, body, deadlineMs, options) as Promise<never>,
    send: (to, kind, body, options) => to.send(kind, body, options),
    body: (kind, message) => {
      assert(message.kind === kind, `a ${message.kind} is no ${kind}`)
      return message.body as never
    },
  }
}

export function unknownKind(kind: string): StellwerkError {
  return new StellwerkError('unknown-kind', `nobody here speaks ${JSON.stringify(kind)}`, {
    hint: 'the two processes may be of different versions',
  })
}
