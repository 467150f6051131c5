// What this host knows of a volume's legs: where each is, by the map; since when one is behind, by the map or by what it saw
// itself: a leg that was in sync in one generation and is not in the next was last in sync in the former.

import { type Generation, legIds } from '@stellwerk/block/mirror/generation.ts'
import type { LegState, VolumeGeneration } from '@stellwerk/csv/mirror/leg-state.ts'
import type { ClusterMapVolume } from '@stellwerk/protocol/messages/cluster.ts'

type MapLeg = ClusterMapVolume['legs'][number]

export class LegBook {
  #volume: ClusterMapVolume
  #seen: VolumeGeneration

  constructor(volume: ClusterMapVolume) {
    this.#volume = volume
    this.#seen = ofMap(volume)
  }

  /** As the map has it. */
  get volume(): ClusterMapVolume {
    return this.#volume
  }

  generationOfMap(): Generation {
    return rolesOf(this.#volume)
  }

  /** Null: the map has not told of it yet. */
  find(leg: string): MapLeg | null {
    return this.#volume.legs.find(each => each.leg === leg) ?? null
  }

  follow(volume: ClusterMapVolume): void {
    this.#volume = volume
  }

  /** A generation that is served in, with what is known of its legs. Called for each in order. */
  saw(generation: Generation): VolumeGeneration {
    const { number } = generation
    const legs = legIds(generation).map((id): LegState => {
      const role = generation.legs[id]!
      const index = this.find(id)?.index ?? this.#seen.legs.find(leg => leg.id === id)?.index ?? 0
      return { id, index, role, lastInSync: this.#lastInSync(id, number, role) }
    })
    this.#seen = { number, legs }
    return this.#seen
  }

  #lastInSync(id: string, number: number, role: LegState['role']): LegState['lastInSync'] {
    // The map's word holds for its own generation.
    if (this.#volume.generation === number) return this.find(id)?.lastInSync ?? null
    const before = this.#seen.legs.find(leg => leg.id === id)
    if (before === undefined || this.#seen.number + 1 !== number || role === 'in-sync') return 'unknown'
    return before.role === 'in-sync' ? this.#seen.number : before.lastInSync
  }
}

export function ofMap(volume: ClusterMapVolume): VolumeGeneration {
  const legs = volume.legs.map(({ leg, index, role, lastInSync }) => ({ id: leg, index, role, lastInSync }))
  return { number: volume.generation, legs }
}

function rolesOf(volume: ClusterMapVolume): Generation {
  return { number: volume.generation, legs: Object.fromEntries(volume.legs.map(({ leg, role }) => [leg, role])) }
}
