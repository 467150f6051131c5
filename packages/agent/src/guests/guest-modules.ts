// The guest modules of operators on this host, as an actor: fetched from the coordinator when a VM needs one, cached, given
// to a coordinator that has lost them, and removed when no VM of the cluster uses them.

import { fetchModule } from '@stellwerk/protocol/guest-modules/module-fetch.ts'
import { digestOfGuest, ModuleShelf } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { MAX_MODULES_LISTED, MODULE_PIECE_BYTES } from '@stellwerk/protocol/messages/guest.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'

const LIBRARY = 'coordinator/guests'
/** How often the coordinator is asked what of the cache is still used. */
const TIDY_MS = 30_000

export interface ModuleWait {
  readonly signal: AbortSignal
  /** It does not come, and why. */
  readonly onTrouble: (why: string) => void
}

interface Waiter extends ModuleWait {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export interface GuestModulesOptions {
  readonly env: Environment
  readonly system: ActorSystem
  readonly host: string
  readonly requestMs: () => number
}

export class GuestModules implements Behavior {
  readonly #options: GuestModulesOptions
  readonly #shelf: ModuleShelf
  readonly #address: string
  readonly #waiting = new Map<string, Set<Waiter>>()

  constructor(options: GuestModulesOptions) {
    this.#options = options
    this.#shelf = new ModuleShelf(options.env)
    this.#address = `${options.host}/guests`
  }

  started(context: ActorContext): void {
    context.after(TIDY_MS, 'guests.tidy', null)
  }

  receive(message: Message, context: ActorContext): void {
    const { system } = this.#options
    switch (message.kind) {
      case 'guests.tidy':
        void this.#tidy().then(() => context.after(TIDY_MS, 'guests.tidy', null))
        return
      case 'guest.read': {
        const { digest, offset } = message.body as { digest: string; offset: number }
        this.#shelf.piece(digest, offset, MODULE_PIECE_BYTES).then(
          piece => system.reply(message, piece),
          (error: unknown) => system.fail(message, error),
        )
        return
      }
      default:
        if (message.re === undefined) context.fail(message, unknownKind(message.kind))
    }
  }

  /** Null: the guest needs no module of this kind. Otherwise it resolves when the module is here, and was checked. */
  need(guest: string, wait: ModuleWait): Promise<void> | null {
    const digest = digestOfGuest(guest)
    if (digest === null) return null
    return new Promise((resolve, reject) => {
      if (wait.signal.aborted) return reject(unwanted())
      const waiter: Waiter = { ...wait, resolve, reject }
      const known = this.#waiting.get(digest)
      const waiters = known ?? new Set()
      waiters.add(waiter)
      wait.signal.addEventListener('abort', () => {
        if (waiters.delete(waiter)) reject(unwanted())
      })
      if (known !== undefined) return undefined
      this.#waiting.set(digest, waiters)
      this.#bring(digest, waiters)
      return undefined
    })
  }

  #bring(digest: string, waiters: Set<Waiter>): void {
    const abort = new AbortController()
    const settle = (then: (waiter: Waiter) => void): void => {
      this.#waiting.delete(digest)
      for (const waiter of waiters) then(waiter)
      waiters.clear()
    }
    this.#fetch(digest, abort, waiters).then(
      () => settle(waiter => waiter.resolve()),
      (error: unknown) => {
        // Given up for want of waiters, one of which came just then.
        if (errorCode(error) === 'cancelled' && waiters.size > 0) this.#bring(digest, waiters)
        else settle(waiter => waiter.reject(error))
      },
    )
  }

  async #fetch(digest: string, abort: AbortController, waiters: ReadonlySet<Waiter>): Promise<void> {
    const { env, system, requestMs } = this.#options
    if ((await this.#shelf.get(digest)) !== null) return
    const bytes = await fetchModule({
      digest,
      timers: env.timers,
      signal: abort.signal,
      read: async offset => {
        if (waiters.size === 0) abort.abort()
        const answer = await system.ask(this.#address, LIBRARY, 'guest.read', { digest, offset }, requestMs())
        const { sizeBytes, data } = answer as { sizeBytes: number; data: Uint8Array }
        return { sizeBytes, data }
      },
      onTrouble: why => {
        if (waiters.size === 0) abort.abort()
        for (const { onTrouble } of waiters) onTrouble(why)
      },
    })
    await this.#shelf.put(bytes)
    env.log.info({ digest, bytes: bytes.length }, 'a guest module was fetched')
  }

  /** The coordinator's word alone removes anything: without it what is here stays. */
  async #tidy(): Promise<void> {
    const { env, system, requestMs } = this.#options
    try {
      const digests = (await this.#shelf.names())
        .filter(digest => !this.#waiting.has(digest))
        .slice(0, MAX_MODULES_LISTED)
      this.#shelf.forget()
      if (digests.length === 0) return
      const answer = await system.ask(this.#address, LIBRARY, 'guest.cached', { digests }, requestMs())
      for (const digest of (answer as { unused: string[] }).unused) {
        if (!this.#waiting.has(digest)) await this.#shelf.remove(digest)
      }
    } catch (error) {
      env.log.debug({ code: errorCode(error) }, `guest modules were not tidied: ${errorMessage(error)}`)
    }
  }
}

function unwanted(): StellwerkError {
  return new StellwerkError('cancelled', 'the VM is not wanted here any more')
}

function unknownKind(kind: string): StellwerkError {
  return new StellwerkError('unknown-kind', `the guest modules do not take ${kind}`)
}
