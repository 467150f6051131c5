// A guest's file systems, held still by its agent while a snapshot is made (`guest-fsfreeze-freeze`). They are let go when that is
// done, when it has taken too long, and whenever an agent is found with frozen ones that nobody here asked for: of an agent of ours
// that has died meanwhile, or on another host, before a migration.

import type { FreezeAnswer } from '@stellwerk/protocol/messages/guest-agent.ts'
import type { Environment, Json, Timer } from '@stellwerk/runtime/environment.ts'
import { describeError, errorCode } from '@stellwerk/runtime/errors.ts'
import type { FreezeOrder, GuestFiles } from '../hypervisor.ts'

/** The guest writes down first what it has in memory. */
const FREEZE_MS = 10_000
const THAW_MS = 10_000
const STATUS_MS = 1_500
/** The longest that anybody may ask for. */
const HOLD_MAX_MS = 10_000

type Ask = (command: string, deadlineMs: number) => Promise<Json>

export interface FileFreezeOptions {
  /** An agent that answers, in a guest that executes. */
  readonly isThere: () => boolean
  /** One after the other with whatever else is asked. */
  readonly ask: Ask
  /** It is to be looked after: `melt` is called then, until it succeeds. */
  readonly look: () => void
}

interface Freeze {
  readonly id: string
  state: FreezeAnswer['state']
  why: string | null
}

export class FileFreeze implements GuestFiles {
  readonly #env: Pick<Environment, 'timers'>
  readonly #options: FileFreezeOptions
  #freeze: Freeze | null = null
  #hold: Timer | null = null
  #isMelting = false
  /** Since it was thawed last. */
  #hasFrozen = false
  /** For all that is known here; what an earlier connection has left is not. */
  mayBeFrozen = true

  constructor(env: Pick<Environment, 'timers'>, options: FileFreezeOptions) {
    this.#env = env
    this.#options = options
  }

  /** As somebody wants it to be. */
  get isFrozen(): boolean {
    return this.#freeze !== null && this.#freeze.state !== 'failed'
  }

  freeze({ freeze: id, holdMs }: FreezeOrder): FreezeAnswer {
    if (this.#freeze?.id === id) return { state: this.#freeze.state, why: this.#freeze.why }
    if (this.isFrozen || this.#isMelting) return { state: 'failed', why: 'another snapshot is being made' }
    if (!this.#options.isThere()) return { state: 'failed', why: 'no agent answers in its guest' }
    const freeze: Freeze = { id, state: 'freezing', why: null }
    this.#freeze = freeze
    this.mayBeFrozen = true
    this.#options.ask('guest-fsfreeze-freeze', FREEZE_MS).then(
      count => this.#frozen(freeze, count, Math.min(holdMs, HOLD_MAX_MS)),
      (error: unknown) => this.#fail(freeze, describeError(error)),
    )
    return { state: freeze.state, why: null }
  }

  #frozen(freeze: Freeze, count: Json, holdMs: number): void {
    this.#hasFrozen = count !== 0
    if (count === 0) this.#fail(freeze, 'its guest has no file system that can be frozen')
    // It is not wanted any more.
    else if (freeze.state !== 'freezing') void this.#release()
    else {
      freeze.state = 'frozen'
      this.#hold = this.#env.timers.after(holdMs, () => this.#fail(freeze, `it was not done within ${holdMs} ms`))
    }
  }

  #fail(freeze: Freeze, why: string): void {
    freeze.why ??= why
    freeze.state = 'failed'
    this.#hold?.cancel()
    void this.#release()
  }

  async thaw(id: string): Promise<boolean> {
    const freeze = this.#freeze
    if (freeze?.id !== id) return false
    if (freeze.state !== 'frozen') {
      // Let go as soon as it is known whether it is.
      freeze.state = 'failed'
      return false
    }
    // Whoever is in the guest may have let it go himself.
    const status = await this.#options.ask('guest-fsfreeze-status', STATUS_MS).catch(() => null)
    // By now its time may be over.
    const held = status === 'frozen' && (freeze.state as FreezeAnswer['state']) === 'frozen'
    this.#fail(freeze, 'it is over')
    return held
  }

  async #release(): Promise<void> {
    if (this.#isMelting) return
    this.#isMelting = true
    try {
      await this.melt(this.#options.ask)
    } catch {
      // It is tried again with each look.
      this.#options.look()
    } finally {
      this.#isMelting = false
    }
  }

  /** What is frozen, and is not to be, is let go. Rejects where that is not known to be so. */
  async melt(ask: Ask): Promise<void> {
    if (!this.mayBeFrozen || this.isFrozen) return
    // What it says of itself counts only where it has not frozen anything for us: that is let go whatever it says.
    const status = this.#hasFrozen ? 'frozen' : await ask('guest-fsfreeze-status', STATUS_MS).catch(unlessRefused)
    if (status === 'frozen') await ask('guest-fsfreeze-thaw', THAW_MS)
    this.#hasFrozen = false
    if (!this.isFrozen) this.mayBeFrozen = false
  }

  /** The agent has gone, or another one will come: what it had frozen is found out then. */
  lost(): void {
    this.mayBeFrozen = true
    if (this.#freeze === null) return
    this.#hold?.cancel()
    this.#freeze.state = 'failed'
    this.#freeze.why ??= 'its agent has gone'
  }

  end(): void {
    this.#hold?.cancel()
  }
}

/** An agent that does nothing of that kind has nothing frozen. */
function unlessRefused(error: unknown): null {
  if (errorCode(error) === 'guest-agent-refused') return null
  throw error
}
