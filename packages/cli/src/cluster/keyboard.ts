// What is typed at a terminal on its way to a guest: in order, to whichever host has the guest at that moment. Each key is read once or,
// where nobody can know, not at all: it is sent again only after a refusal.

import { CONSOLE_KEYS_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Clock, Timers } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'

/** Nothing of it was typed: it may be sent again, there or elsewhere. */
const NOT_TYPED: ReadonlySet<string> = new Set([
  'not-linked',
  'unknown-vm',
  'not-running',
  'migrating',
  'standing-still',
  'console-busy',
])
/** Said by everybody who has nothing to do with it; what tells less comes first. */
const ELSEWHERE: readonly string[] = ['not-linked', 'unknown-vm']
const AGAIN_MS = 100
/** So long keys wait for a guest that reads them: a switch takes less, and who types knows by then that nothing comes of it. */
const PATIENCE_MS = 5_000
const PENDING_MAX_BYTES = 1 << 20
/** Keys that follow lost ones without a pause belong to them: of a text that was pasted the rest is not typed, either. */
const PASTE_GAP_MS = 200

export interface KeyboardParts {
  readonly env: { readonly clock: Clock; readonly timers: Timers }
  /** Where the guest could be. */
  readonly hosts: () => readonly string[]
  /** The life of the guest that is typed to now; null: nobody knows. */
  readonly life: () => string | null
  /** Rejects with `not-linked`: it was not sent. */
  readonly give: (host: string, keys: Uint8Array, life: string | null) => Promise<void>
  /** Whatever is under way, or waits behind it, is typed in vain. */
  readonly lost: (error: unknown) => void
}

/** Keys are for the life in which they were pressed, whenever they are sent. */
interface Pressed {
  readonly life: string | null
  readonly keys: Buffer
}

export class Keyboard {
  readonly #parts: KeyboardParts
  #pending: Pressed[] = []
  #host: string | null = null
  #giving: Promise<void> | null = null
  #pressedAt = Number.NEGATIVE_INFINITY
  #isDeaf = false
  #isOver = false

  constructor(parts: KeyboardParts) {
    this.#parts = parts
  }

  /** The guest was heard there. */
  at(host: string): void {
    this.#host = host
  }

  press(keys: Uint8Array): void {
    const now = this.#parts.env.clock.now()
    this.#isDeaf &&= now - this.#pressedAt < PASTE_GAP_MS
    this.#pressedAt = now
    if (this.#isDeaf) return
    const pendingBytes = this.#pending.reduce((sum, pressed) => sum + pressed.keys.length, 0)
    if (pendingBytes + keys.length > PENDING_MAX_BYTES) {
      this.#lost(new StellwerkError('console-busy', 'more was typed than the guest reads'))
      return
    }
    const life = this.#parts.life()
    const last = this.#pending.at(-1)
    if (last?.life !== life) this.#pending.push({ life, keys: Buffer.from(keys) })
    else this.#pending.splice(-1, 1, { life, keys: Buffer.concat([last.keys, keys]) })
    this.#giving ??= this.#giveAll()
  }

  /** Resolves when all that was pressed was typed or lost. */
  get settled(): Promise<void> {
    return this.#giving ?? Promise.resolve()
  }

  /** What has not been typed by now is not typed any more. */
  stop(): void {
    this.#isOver = true
    this.#pending = []
  }

  async #giveAll(): Promise<void> {
    // What is pressed in this turn goes together.
    await Promise.resolve()
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      const { life, keys } = next
      if (keys.length > CONSOLE_KEYS_BYTES) this.#pending.unshift({ life, keys: keys.subarray(CONSOLE_KEYS_BYTES) })
      const error = await this.#give(keys.subarray(0, CONSOLE_KEYS_BYTES), life)
      if (error !== null && !this.#isOver) this.#lost(error)
    }
    this.#giving = null
  }

  #lost(error: unknown): void {
    this.#pending = []
    this.#isDeaf = true
    this.#parts.lost(error)
  }

  /** Null: it was typed. */
  async #give(keys: Uint8Array, life: string | null): Promise<unknown> {
    const { clock, timers } = this.#parts.env
    const until = clock.now() + PATIENCE_MS
    for (;;) {
      let refusal: unknown = new StellwerkError('not-linked', 'no host is there to be typed to')
      for (const host of this.#inTurn()) {
        try {
          await this.#parts.give(host, keys, life)
          this.#host = host
          return null
        } catch (error) {
          if (!NOT_TYPED.has(errorCode(error)) && !canary('keys-typed-again')) return error
          if (tells(error) >= tells(refusal)) refusal = error
        }
      }
      // For a guest that nobody knows nothing waits: the next one that begins might read it.
      if (this.#isOver || clock.now() >= until || life === null) return refusal
      await new Promise<void>(resolve => void timers.after(AGAIN_MS, resolve))
    }
  }

  /** Where it was last comes first. */
  #inTurn(): readonly string[] {
    const hosts = this.#parts.hosts()
    const host = this.#host
    if (host === null || !hosts.includes(host)) return hosts
    return [host, ...hosts.filter(each => each !== host)]
  }
}

/** How much a refusal tells. */
function tells(refusal: unknown): number {
  const elsewhere = ELSEWHERE.indexOf(errorCode(refusal))
  return elsewhere < 0 ? ELSEWHERE.length : elsewhere
}
