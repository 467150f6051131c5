// The scrubs of one volume by one owner: whether one may begin, the one that runs, and what came of the last.

import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { VolumeGeneration } from '../mirror/leg-state.ts'
import { OwnerScrub, type OwnerScrubOptions } from '../mirror/owner-scrub.ts'
import { UnsureExtents } from '../mirror/unsure-extents.ts'
import type { VolumeOwnerOptions } from './owner-options.ts'
import { refuse } from './refusal.ts'

export interface ScrubsOptions
  extends Omit<OwnerScrubOptions, 'id' | 'goodLeg' | 'env' | 'volume' | 'hosts' | 'extents'> {
  readonly generation: VolumeGeneration
  readonly options: Pick<VolumeOwnerOptions, 'volume' | 'ownerEpoch' | 'scrubHosts' | 'env'>
}

export class Scrubs {
  readonly #options: ScrubsOptions
  #last: OwnerScrub | null = null
  #extents: UnsureExtents | null = null
  #begun = 0

  constructor(options: ScrubsOptions) {
    this.#options = options
  }

  /** Null: this owner has begun none. */
  get report(): ScrubReport | null {
    return this.#last?.report ?? null
  }

  /** Gives its id; throws a refusal. */
  begin(goodLeg: string | null): string {
    const { generation } = this.#options
    const { volume, ownerEpoch, env, scrubHosts: hosts = null } = this.#options.options
    const { timers, clock, trace, log } = env
    const { legs } = generation
    if (legs.length < 2) {
      throw refuse('not-mirrored', `volume "${volume}" has one leg: there is nothing to compare`, { where: volume })
    }
    const behind = legs.find(leg => leg.role !== 'in-sync')
    if (behind !== undefined) {
      throw refuse('leg-not-in-sync', `${behind.id} of volume "${volume}" is ${behind.role}`, {
        where: volume,
        hint: 'wait until it is in sync',
      })
    }
    if (goodLeg !== null && !legs.some(leg => leg.id === goodLeg)) {
      throw refuse('unknown-leg', `volume "${volume}" has no leg "${goodLeg}"`, { where: volume })
    }
    if (this.#last?.over === false) {
      throw refuse('scrub-running', `volume "${volume}" is being scrubbed already`, {
        where: volume,
        hint: `see: stellwerk volume show ${volume}`,
      })
    }
    assert(timers !== undefined && clock !== undefined, 'an owner without time scrubs nothing')
    this.#begun += 1
    const id = `scrub-${ownerEpoch}-${generation.number}-${this.#begun}`
    const own = { timers, clock, trace, log }
    const { state, news } = this.#options
    this.#extents ??= new UnsureExtents({ state, hosts, timers, news })
    this.#last = new OwnerScrub({ ...this.#options, id, volume, goodLeg, extents: this.#extents, hosts, env: own })
    this.#last.start()
    return id
  }

  /** Ends the one that runs, whose id it gives; what it has found and repaired stays. Throws a refusal. */
  cancel(): string {
    const { report } = this
    if (this.#last === null || report?.state !== 'running') {
      const { volume } = this.#options.options
      throw refuse('no-scrub', `no scrub of volume "${volume}" is running`, { where: volume })
    }
    this.#last.cancel()
    return report.scrub
  }

  stop(): void {
    this.#last?.stop()
    this.#extents?.stop()
  }

  async idle(): Promise<void> {
    await this.#last?.idle()
  }
}
