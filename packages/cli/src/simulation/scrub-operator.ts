// Plays the operators who hear that a leg has rotted: they have the volume scrubbed and name the good leg, again and again
// until a scrub has compared everything. Sometimes they look first, naming none: then nothing may be copied.

import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { RottenSpot } from './rot.ts'
import type { World } from './world.ts'

const AGAIN_MS = 700
const LOOK_MS = 400

export class ScrubOperator {
  readonly #world: World
  readonly #at = new Set<string>()
  /** Scrubs that were told the good leg and have compared everything. */
  done = 0

  constructor(world: World) {
    this.#world = world
  }

  /** Whether there is nothing left to be scrubbed, as far as legs are in sync. */
  get idle(): boolean {
    const volumes = this.#world.coordinator?.state.volumes
    return [...this.#at].every(name => {
      const inSync = volumes?.get(name)?.legs.every(leg => leg.role === 'in-sync') ?? false
      return !inSync || this.#spots(name).length === 0
    })
  }

  /** `looksFirst`: one scrub without naming a leg. */
  call(volume: string, looksFirst: boolean): void {
    if (this.#at.has(volume)) return
    this.#at.add(volume)
    this.#scrub(volume, looksFirst)
  }

  #spots(name: string): readonly RottenSpot[] {
    const volume = this.#world.coordinator?.state.volumes.get(name)
    return volume === undefined ? [] : this.#world.rot.live(volume).filter(spot => !spot.scrubbed)
  }

  #scrub(name: string, looksOnly: boolean): void {
    const volume = this.#world.coordinator?.state.volumes.get(name)
    const spots = this.#spots(name)
    if (volume !== undefined && spots.length === 0) {
      this.#at.delete(name)
      return
    }
    const again = (): void => this.#world.sim.after(AGAIN_MS, () => this.#scrub(name, looksOnly))
    const good = volume?.legs.find(({ leg }) => leg !== spots[0]?.leg)?.leg
    if (volume === undefined || good === undefined) {
      again()
      return
    }
    const goodLeg = looksOnly ? null : good
    this.#world.command({ kind: 'volume-scrub', name, leg: goodLeg }, ({ ok }) => {
      if (!ok) {
        again()
        return
      }
      this.#world.askOwner(name, 'volume.scrub', { volume: name, goodLeg }, ({ ok, reply }) => {
        if (ok) this.#follow(name, (reply as { scrub: string }).scrub, goodLeg, spots)
        else again()
      })
    })
  }

  #follow(name: string, scrub: string, goodLeg: string | null, spots: readonly RottenSpot[]): void {
    const { sim } = this.#world
    sim.after(LOOK_MS, () => {
      this.#world.askOwner(name, 'volume.scrub-report', { volume: name }, ({ ok, final, reply }) => {
        const report = ok ? (reply as ScrubReport) : null
        // An owner that does not answer may be at it still; one that knows of no such scrub is another.
        if ((!ok && !final) || (report?.scrub === scrub && report.state === 'running')) {
          this.#follow(name, scrub, goodLeg, spots)
          return
        }
        if (report?.scrub === scrub && report.state === 'done' && report.skipped === 0 && goodLeg !== null) {
          this.done += 1
          for (const spot of spots) spot.scrubbed = true
        }
        this.#scrub(name, false)
      })
    })
  }
}
