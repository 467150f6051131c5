// What a host says of itself with each beat.

import { digestOfMachines } from '@stellwerk/protocol/machines-digest.ts'
import type { Beat, ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { HostParts } from './host-parts.ts'

/** A path counts as up while its last answer is not older than so many heartbeats. */
export const MISSED_PROBES = 2.5

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
  const machines = [...facts.machines].sort((a, b) => (a.vm < b.vm ? -1 : 1))
  const qemu = parts.qemu()
  const resyncs = volumes().resyncs()
  const survivors = left.all().map(({ vm, epoch }) => ({ vm, epoch }))
  const forwards = parts.forwards().reports
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
