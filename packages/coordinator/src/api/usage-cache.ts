// How full the volumes are, as their owners said last. Only an owner knows, so it is asked, at most once in a while and one
// question a volume at a time; who looks gets the last answer with its age and never waits. It looks by itself too, and puts
// on record when a volume has filled up, or has room again.

import type { Environment, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { Coordinator } from '../coordinator.ts'
import { isServing } from '../core/ownership.ts'
import { type Fullness, fullnessOf, percentUsed } from '../view/fullness.ts'
import type { Usage } from '../view/schemas.ts'

const STALE_MS = 2_000
/** It looks by itself so often. */
const WATCH_MS = 15_000

interface Known {
  readonly usage: Omit<Usage, 'ageMs'>
  readonly at: number
}

type Answer = Omit<Usage, 'ageMs'>

export class UsageCache {
  readonly #env: Environment
  readonly #coordinator: Coordinator
  readonly #known = new Map<string, Known>()
  readonly #asking = new Set<string>()
  readonly #told = new Map<string, Fullness>()
  #timer: Timer | null = null

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

  watch(): void {
    this.#timer = this.#env.timers.after(WATCH_MS, () => {
      for (const volume of this.#coordinator.state.volumes.keys()) this.get(volume)
      this.watch()
    })
  }

  close(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  async fresh(volume: string): Promise<Usage> {
    const answer = (await this.#coordinator.askOwner(volume, 'volume.usage', { volume })) as Answer
    const { usedBytes, freeBytes, mappedBytes, extentBytes, disks } = answer
    const usage = { usedBytes, freeBytes, mappedBytes, extentBytes, disks }
    this.#tell(volume, usage)
    this.#known.set(volume, { usage, at: this.#env.clock.now() })
    return { ...usage, ageMs: 0 }
  }

  #forget(volume: string): void {
    this.#known.delete(volume)
    this.#told.delete(volume)
  }

  #tell(volume: string, usage: Answer): void {
    const fullness = fullnessOf(usage)
    const before = this.#told.get(volume) ?? 'ok'
    this.#told.set(volume, fullness)
    if (fullness === before) return
    const kind = fullness === 'ok' ? 'volume.has-room-again' : `volume.is-${fullness}`
    this.#env.trace.emit({ level: 'decision', kind, volume, body: { percent: percentUsed(usage) } })
  }

  #ask(volume: string): void {
    const { state } = this.#coordinator
    for (const name of this.#known.keys()) if (!state.volumes.has(name)) this.#forget(name)
    if (this.#asking.has(volume) || !isServing(state, volume)) return
    this.#asking.add(volume)
    this.fresh(volume)
      .catch((error: unknown) => {
        this.#env.log.debug({ volume, code: errorCode(error) }, 'its owner did not say how full it is')
      })
      .finally(() => this.#asking.delete(volume))
  }
}
