// Plays the operators who change volumes' legs (leg-plan.ts). Whatever is refused, or not heard, they try again later, having
// looked how things are: an answer may be lost. What they have begun must come to its end, and once everything is healed soon.

import type { VolumeRecord } from '@stellwerk/coordinator/core/state.ts'
import type { PlannedLegChange } from './leg-plan.ts'
import type { LegCounts } from './run-seed.ts'
import type { World } from './world.ts'

const AGAIN_MS = 700
const LOOK_MS = 400

export class LegOperator {
  readonly #world: World
  readonly #changes: readonly PlannedLegChange[]
  /** The change that each volume is in. */
  readonly #underWay = new Map<string, PlannedLegChange>()
  #over = false
  /** Legs taken away, and second legs that came to be in sync. */
  taken = 0
  given = 0
  regretted = 0

  constructor(world: World, changes: readonly PlannedLegChange[]) {
    this.#world = world
    this.#changes = changes
  }

  start(): void {
    const { sim } = this.#world
    for (const change of this.#changes) sim.after(change.atMs, () => this.#begin(change))
  }

  /** Everything is healed: nothing more is begun, and no volume is left with one leg any longer. */
  finish(): void {
    this.#over = true
  }

  get counts(): LegCounts {
    const { taken, given, regretted } = this
    return { taken, given, regretted }
  }

  /** What has been begun and is not done, in words; or null. */
  get unfinished(): string | null {
    const lines = [...this.#underWay].map(([name, { gives }]) => {
      const state = this.#world.coordinator?.state
      const legs = state?.volumes.get(name)?.legs.map(({ leg, storage, role }) => `${leg} on ${storage} ${role}`) ?? []
      const why = state?.liveVolumes.get(name)?.why ?? 'no reason told'
      return `${name} has no second leg on ${gives} in sync: ${legs.join(', ')}; ${why}`
    })
    return lines.length === 0 ? null : lines.join('; ')
  }

  #begin(change: PlannedLegChange): void {
    if (this.#over) return
    if (this.#underWay.has(change.volume)) {
      this.#world.sim.after(AGAIN_MS, () => this.#begin(change))
      return
    }
    this.#underWay.set(change.volume, change)
    this.#take(change)
  }

  #take(change: PlannedLegChange): void {
    const { volume: name, takes } = change
    const volume = this.#volume(name)
    const again = (): void => this.#world.sim.after(AGAIN_MS, () => this.#take(change))
    if (volume === undefined) {
      again()
      return
    }
    if (takes === null || !hasLeg(volume, takes)) {
      if (takes !== null) this.taken += 1
      this.#leaveAlone(change)
      return
    }
    if (this.#over) {
      // Never begun: it was refused all the time.
      this.#underWay.delete(name)
      return
    }
    // It looks before it goes on, whatever the answer was.
    this.#world.command({ kind: 'volume-unmirror', name, leg: takes }, ({ ok }) => {
      if (ok) this.#take(change)
      else again()
    })
  }

  #leaveAlone(change: PlannedLegChange): void {
    const { sim } = this.#world
    const since = sim.now
    const look = (): void => {
      if (this.#over || sim.now - since >= change.aloneMs) this.#give(change)
      else sim.after(Math.min(LOOK_MS, since + change.aloneMs - sim.now), look)
    }
    look()
  }

  #give(change: PlannedLegChange): void {
    const { volume: name, gives } = change
    const volume = this.#volume(name)
    if (volume !== undefined && hasLeg(volume, gives)) {
      this.#follow(change)
      return
    }
    this.#world.command({ kind: 'volume-mirror', name, storage: gives }, ({ ok }) => {
      if (ok) {
        if (change.regretsMs !== null) this.#world.sim.after(change.regretsMs, () => this.#regret(change))
        this.#follow(change)
      } else this.#world.sim.after(AGAIN_MS, () => this.#give(change))
    })
  }

  /** Once; whoever follows that leg finds it gone, and gives another. */
  #regret({ volume: name, gives }: PlannedLegChange): void {
    const leg = this.#volume(name)?.legs.find(({ storage }) => storage === gives)
    if (this.#over || leg === undefined || leg.role === 'in-sync') return
    this.#world.command({ kind: 'volume-unmirror', name, leg: leg.leg }, ({ ok }) => {
      if (ok) this.regretted += 1
    })
  }

  #follow(change: PlannedLegChange): void {
    const volume = this.#volume(change.volume)
    if (volume !== undefined && !hasLeg(volume, change.gives)) {
      this.#give({ ...change, regretsMs: null })
      return
    }
    if (volume?.legs.every(({ role }) => role === 'in-sync')) {
      this.given += 1
      this.#underWay.delete(change.volume)
      return
    }
    this.#world.sim.after(LOOK_MS, () => this.#follow(change))
  }

  #volume(name: string): VolumeRecord | undefined {
    return this.#world.coordinator?.state.volumes.get(name)
  }
}

function hasLeg({ legs }: VolumeRecord, storage: string): boolean {
  return legs.some(leg => leg.storage === storage)
}
