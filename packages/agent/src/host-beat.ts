// What a host says of itself with each beat.

import { digestOfMachines } from '@stellwerk/protocol/machines-digest.ts'
import type { Beat, ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import type { HostParts } from './host-parts.ts'

/** A path counts as up while its last answer is not older than so many heartbeats. */
export const MISSED_PROBES = 2.5

/** What guests say of themselves has so much room in a beat, in all and each (characters of JSON): they are not to crowd out the rest. */
const GUESTS_MAX = 128 * KIB
const GUEST_MAX = 4 * KIB
/** Of a forward that is not open. */
const WHY_MAX = 200

/** Without the words of guests that say too much, or that have no room any more. */
export function withinBudget(machines: readonly ReportedMachine[]): ReportedMachine[] {
  let left = GUESTS_MAX
  return machines.map(machine => {
    const { guest, ...rest } = machine
    if (guest == null) return machine
    const size = JSON.stringify(guest).length
    if (size > GUEST_MAX || size > left) return rest
    left -= size
    return machine
  })
}

export interface BeatFacts {
  readonly epoch: number
  readonly clean: boolean
  /** Of the newest map that it follows. */
  readonly mapVersion: number
  readonly settings: Settings
  readonly machines: readonly ReportedMachine[]
  /** Said whole, not only their digest. */
  readonly wholeMachines: boolean
}

export function beatOf(parts: HostParts, facts: BeatFacts): Beat {
  const { config, left, links, luns, peers, volumes } = parts
  const withinMs = facts.settings.heartbeatMs * MISSED_PROBES
  const machines = withinBudget([...facts.machines].sort((a, b) => (a.vm < b.vm ? -1 : 1)))
  const qemu = parts.qemu()
  const resyncs = volumes().resyncs()
  const survivors = left.all().map(({ vm, epoch }) => ({ vm, epoch }))
  const forwards = parts.forwards().reports.map(each => ({ ...each, why: each.why?.slice(0, WHY_MAX) ?? null }))
  return {
    host: config.host,
    incarnation: config.incarnation,
    epoch: facts.epoch,
    clean: facts.clean,
    mapVersion: facts.mapVersion,
    memoryBytes: config.memoryBytes,
    peers: peers.views(),
    storages: links().reachable(withinMs),
    paths: luns().paths(links().states(withinMs)),
    access: luns().access(),
    volumes: volumes().owned(),
    ...(resyncs.length === 0 ? {} : { resyncs }),
    ...(qemu === undefined ? {} : { qemu }),
    ...(forwards.length === 0 ? {} : { forwards }),
    digest: digestOfMachines(machines),
    machines: facts.wholeMachines ? machines : null,
    ...(survivors.length === 0 ? {} : { survivors }),
  }
}
