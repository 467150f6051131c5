// How full the volumes are, as their owners said last. Only an owner knows, so it is asked, at most once in a while and one
// question a volume at a time; who looks gets the last answer with its age and never waits.

import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { Coordinator } from '../coordinator.ts'
import { isServing } from '../core/ownership.ts'
import type { Usage } from '../view/schemas.ts'

const STALE_MS = 2_000

interface Known {
  readonly usage: Omit<Usage, 'ageMs'>
  readonly at: number
}

type Answer = { usedBytes: number; freeBytes: number; extentBytes: number; disks: number }

export class UsageCache {
  readonly #env: Environment
  readonly #coordinator: Coordinator
  readonly #known = new Map<string, Known>()
  readonly #asking = new Set<string>()

  constructor(env: Environment, coordinator: Coordinator) {
    this.#env = env
    this.#coordinator = coordinator
  }

  get(volume: string): Usage | null {
    const now = this.#env.clock.now()
    const known = this.#known.get(volume)
    if (known === undefined || now - known.at > STALE_MS) this.#ask(volume)
    return known === undefined ? null : { ...known.usage, ageMs: now - known.at }
  }

  async fresh(volume: string): Promise<Usage> {
    const answer = (await this.#coordinator.askOwner(volume, 'volume.usage', { volume })) as Answer
    const { usedBytes, freeBytes, extentBytes, disks } = answer
    const usage = { usedBytes, freeBytes, extentBytes, disks }
    this.#known.set(volume, { usage, at: this.#env.clock.now() })
    return { ...usage, ageMs: 0 }
  }

  #ask(volume: string): void {
    const { state } = this.#coordinator
    for (const name of this.#known.keys()) if (!state.volumes.has(name)) this.#known.delete(name)
    if (this.#asking.has(volume) || !isServing(state, volume)) return
    this.#asking.add(volume)
    this.fresh(volume)
      .catch((error: unknown) => {
        this.#env.log.debug({ volume, code: errorCode(error) }, 'its owner did not say how full it is')
      })
      .finally(() => this.#asking.delete(volume))
  }
}
