// A trace's messages put together: what was sent, when it was received, and its body as far as any record has it. Everything
// else passes by in its place. For exports; in little memory.

import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { setBounded } from '@stellwerk/protocol/monitors/monitor.ts'
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'

export interface ExportedMessage {
  readonly what: 'message'
  /** Null: who sent it has no trace here. */
  readonly sent: TraceRecord | null
  /** Null: it has not arrived, or who received it has no trace here. */
  received: TraceRecord | null
  /** It had been received before, and that is where it is told when it was sent: the network has repeated it. */
  readonly isRepeat: boolean
  /** As the coordinator's core was fed it, or said it; undefined: no record has it. */
  body: Json | undefined
}

export type Exported = ExportedMessage | { readonly what: 'record'; readonly record: TraceRecord }

/** What a message says of itself on record. */
export interface Envelope {
  readonly kind: string
  readonly from: string
  readonly to: string
  readonly seq: number
  readonly re?: number
  readonly code?: string
  readonly bytes?: number
}

/** A message that has not been received after this, by the trace's clocks, is taken for lost. */
const AWAIT_MS = 10_000
/** Things held back while one before them is awaited. */
const HELD_MAX = 20_000
/** What the coordinator receives is held back so long for its core's input, which has the body. */
const INPUT_MS = 100
/** Messages that have arrived and may arrive once more. */
const ARRIVED_MAX = 20_000
/** Bodies of orders that wait for the message they leave by. */
const BODIES_MAX = 1_000

export const envelopeOf = (record: TraceRecord): Envelope => record.body as unknown as Envelope

/** In the order in which things were sent or happened; what cores were fed and said is told as the messages' bodies alone. */
export async function* withMessages(records: AsyncIterable<TraceRecord>): AsyncGenerator<Exported> {
  const joiner = new Joiner()
  for await (const record of records) {
    joiner.take(record)
    yield* joiner.ready(record.hlc.wallMs)
  }
  yield* joiner.ready(Number.POSITIVE_INFINITY)
}

class Joiner {
  #held: Exported[] = []
  #first = 0
  readonly #awaited = new Map<string, ExportedMessage>()
  /** Messages that the coordinator has received lately, by the record of that. */
  readonly #heard = new Map<string, ExportedMessage>()
  readonly #bodies = new Map<string, Json>()
  /** What has been received lately, by the record of its being sent. */
  readonly #arrived = new Map<string, true>()

  take(record: TraceRecord): void {
    switch (record.kind) {
      case 'message.sent':
        this.#sent(record)
        return
      case 'message.received':
        this.#received(record)
        return
      case 'core.input':
      case 'core.output':
      case 'core.snapshot':
        this.#core(record)
        return
    }
    this.#held.push({ what: 'record', record })
  }

  *ready(wallMs: number): Generator<Exported> {
    while (this.#first < this.#held.length) {
      const next = this.#held[this.#first]!
      if (next.what === 'message' && next.sent !== null && next.received === null) {
        const isOver = next.sent.hlc.wallMs + AWAIT_MS < wallMs || this.#held.length - this.#first > HELD_MAX
        if (!isOver) return
        this.#awaited.delete(keyOf(next.sent.process, next.sent.seq))
      }
      const { received } = next.what === 'message' ? next : { received: null }
      if (received?.process === COORDINATOR_CORE && received.hlc.wallMs + INPUT_MS >= wallMs) {
        if (next.what === 'message' && next.body === undefined && this.#held.length - this.#first <= HELD_MAX) return
      }
      this.#first += 1
      if (this.#first > 1_024 && this.#first * 2 > this.#held.length) {
        this.#held = this.#held.slice(this.#first)
        this.#first = 0
      }
      yield next
    }
  }

  #sent(sent: TraceRecord): void {
    const { kind, to } = envelopeOf(sent)
    const key = `${kind} ${to}`
    const body = sent.process === COORDINATOR_CORE ? this.#bodies.get(key) : undefined
    this.#bodies.delete(key)
    const message: ExportedMessage = { what: 'message', sent, received: null, isRepeat: false, body }
    this.#held.push(message)
    this.#awaited.set(keyOf(sent.process, sent.seq), message)
  }

  #received(received: TraceRecord): void {
    const { cause } = received
    const key = cause === undefined ? '' : keyOf(cause.process, cause.seq)
    let message = this.#awaited.get(key)
    this.#awaited.delete(key)
    if (message === undefined) {
      message = { what: 'message', sent: null, received, isRepeat: this.#arrived.has(key), body: undefined }
      this.#held.push(message)
    } else {
      message.received = received
      if (message.sent !== null) setBounded(this.#arrived, key, true, ARRIVED_MAX)
    }
    if (received.process === COORDINATOR_CORE) {
      setBounded(this.#heard, keyOf(received.process, received.seq), message, BODIES_MAX)
    }
  }

  #core({ kind, cause, body }: TraceRecord): void {
    const { core, value } = body as { readonly core: string; readonly value: Json }
    if (core !== COORDINATOR_CORE) return
    if (kind === 'core.input') {
      const { input } = (value ?? {}) as { readonly input?: Json }
      const key = cause === undefined ? '' : keyOf(cause.process, cause.seq)
      const message = this.#heard.get(key)
      this.#heard.delete(key)
      if (message !== undefined && input !== undefined) message.body ??= input
    } else if (kind === 'core.output') this.#answers(value)
  }

  #answers(value: Json): void {
    const { effects } = (value ?? {}) as { readonly effects?: readonly Effect[] }
    for (const effect of effects ?? []) {
      if (effect.body === undefined || effect.message === undefined) continue
      if (this.#bodies.size >= BODIES_MAX) this.#bodies.clear()
      this.#bodies.set(`${effect.message} ${addresseeOf(effect)}`, effect.body)
    }
  }
}

interface Effect {
  readonly kind: string
  readonly message?: string
  readonly host?: string
  readonly storage?: string
  readonly volume?: string
  readonly body?: Json
}

/** As decider.ts sends it. */
function addresseeOf({ kind, host, storage, volume }: Effect): string {
  if (kind === 'storage') return `${storage}/control`
  return kind === 'owner' ? `${host}/owner/${volume}` : `${host}/agent`
}

const keyOf = (process: string, seq: number): string => `${process} ${seq}`

/** The process that an actor's address belongs to, of these: `host-a/owner/csv1` is `host-a/agent`'s. */
export function processOf(address: string, known: readonly string[]): string {
  const [node = '', part] = address.split('/')
  if (known.includes(node)) return node
  return part === 'guardian' ? `${node}/guardian` : `${node}/agent`
}
