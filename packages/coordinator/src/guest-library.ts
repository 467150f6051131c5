// The guest modules that operators brought, as an actor beside the decider: kept as long as a VM's definition names them,
// given to agents, and taken back from those when they were lost here. It decides nothing about VMs.

import { fetchModule } from '@stellwerk/protocol/guest-modules/module-fetch.ts'
import { digestOfGuest, ModuleShelf, missingGuest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { MODULE_PIECE_BYTES } from '@stellwerk/protocol/messages/guest.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isTaken } from './core/announce.ts'
import type { CoordinatorState } from './core/state.ts'

export const LIBRARY = 'coordinator/guests'

/** How often what no VM uses is looked for. */
const SWEEP_MS = 5_000
/** Of an agent that is asked for a lost module. */
const PATIENCE = 3

export interface LibraryOptions {
  readonly env: Environment
  readonly system: ActorSystem
  readonly state: CoordinatorState
}

export class GuestLibrary implements Behavior {
  readonly #options: LibraryOptions
  readonly #shelf: ModuleShelf
  /** Brought, and not yet named by a VM that was decided on: how often. */
  readonly #held = new Map<string, number>()
  /** Lost ones that agents are being asked for. */
  readonly #recovering = new Map<string, Promise<void>>()
  /** What came of asking, for those who ask again. */
  readonly #nowhere = new Map<string, string>()

  constructor(options: LibraryOptions) {
    this.#options = options
    this.#shelf = new ModuleShelf(options.env)
  }

  started(context: ActorContext): void {
    context.after(SWEEP_MS, 'guests.sweep', null)
  }

  receive(message: Message, context: ActorContext): void {
    const { system, env } = this.#options
    switch (message.kind) {
      case 'guests.sweep':
        this.sweep().then(
          () => context.after(SWEEP_MS, 'guests.sweep', null),
          (error: unknown) => {
            env.log.warn({}, `unused guest modules were not removed: ${errorMessage(error)}`)
            context.after(SWEEP_MS, 'guests.sweep', null)
          },
        )
        return
      case 'guest.read': {
        const { digest, offset } = message.body as { digest: string; offset: number }
        this.#read(digest, offset).then(
          piece => system.reply(message, piece),
          (error: unknown) => system.fail(message, error),
        )
        return
      }
      case 'guest.cached': {
        const { digests } = message.body as { digests: string[] }
        context.reply(message, { unused: digests.filter(digest => !this.#isUsed(digest)) })
        return
      }
      default:
        if (message.re === undefined) {
          context.fail(message, new StellwerkError('unknown-kind', `the library does not take ${message.kind}`))
        }
    }
  }

  /** Durable before `use` is called, which is to have a VM name it; if none does, it is gone again. */
  async hold<T>(bytes: Uint8Array, use: (digest: string) => Promise<T>): Promise<T> {
    const digest = await this.#shelf.put(bytes)
    this.#nowhere.delete(digest)
    this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1)
    try {
      return await use(digest)
    } finally {
      const left = (this.#held.get(digest) ?? 1) - 1
      if (left === 0) this.#held.delete(digest)
      else this.#held.set(digest, left)
      await this.sweep()
    }
  }

  async has(digest: string): Promise<boolean> {
    return (await this.#shelf.names()).includes(digest)
  }

  /** Removes what no VM uses. */
  async sweep(): Promise<void> {
    this.#shelf.forget()
    for (const digest of await this.#shelf.names()) {
      if (!this.#isUsed(digest)) await this.#shelf.remove(digest)
    }
  }

  #isUsed(digest: string): boolean {
    // A newer state than this one may be may name it.
    if (!isTaken(this.#options.state)) return true
    if (this.#held.has(digest)) return true
    for (const { spec } of this.#options.state.vms.values()) if (digestOfGuest(spec.guest) === digest) return true
    return false
  }

  async #read(digest: string, offset: number): Promise<{ sizeBytes: number; data: Uint8Array }> {
    try {
      return await this.#shelf.piece(digest, offset, MODULE_PIECE_BYTES)
    } catch (error) {
      if (!(error instanceof StellwerkError) || error.code !== 'guest-missing' || !this.#isUsed(digest)) throw error
    }
    if (!this.#recovering.has(digest)) {
      const recovery = this.#recover(digest).finally(() => this.#recovering.delete(digest))
      this.#recovering.set(digest, recovery)
    }
    throw missingGuest(digest, this.#nowhere.get(digest) ?? 'the coordinator has lost it, and asks the agents for it')
  }

  /** From whichever agent still has it. */
  async #recover(digest: string): Promise<void> {
    const { env, system, state } = this.#options
    const asked: string[] = []
    for (const host of [...state.liveHosts.keys()].sort()) {
      if (state.liveHosts.get(host)?.session === null) continue
      asked.push(host)
      try {
        const bytes = await fetchModule({
          digest,
          timers: env.timers,
          signal: new AbortController().signal,
          patience: PATIENCE,
          read: async offset => {
            const { requestMs } = state.cluster.settings
            const answer = await system.ask(LIBRARY, `${host}/guests`, 'guest.read', { digest, offset }, requestMs)
            return answer as { sizeBytes: number; data: Uint8Array }
          },
        })
        await this.#shelf.put(bytes)
        this.#nowhere.delete(digest)
        env.log.info({ digest, host }, 'a lost guest module came back from an agent')
        return
      } catch (error) {
        env.log.info({ digest, host }, `the agent does not give the guest module: ${errorMessage(error)}`)
      }
    }
    this.#nowhere.set(
      digest,
      `neither the coordinator nor an agent has it (asked: ${asked.join(', ') || 'none is here'})`,
    )
  }
}
