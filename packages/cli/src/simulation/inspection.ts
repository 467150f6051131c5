// Looks into the healed cluster's processes and puts on record what is there (`cluster.inspected`): the coordinator's state,
// each agent's own, and each volume's owner, which is asked. It judges nothing: that is LIV1's business.

import type { CoordinatorState } from '@stellwerk/coordinator/core/state.ts'
import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import type { World } from './world.ts'

/** The owners have so long to answer. */
const ANSWER_MS = 1_000

/** To be called when the healed phase begins; the record is made just before `atMs` from now. */
export function inspectAt(world: World, atMs: number): void {
  const { sim } = world
  const answers = new Map<string, readonly DiskInfo[]>()
  sim.after(atMs - ANSWER_MS, () => {
    for (const name of world.coordinator?.state.volumes.keys() ?? []) {
      world.disks(name, disks => {
        if (disks !== null) answers.set(name, disks)
      })
    }
  })
  sim.after(atMs - 1, () => {
    sim.emit({ level: 'decision', kind: 'cluster.inspected', body: inspect(world, answers) })
  })
}

function inspect(world: World, answers: ReadonlyMap<string, readonly DiskInfo[]>): Json {
  const state = world.coordinator?.state
  const { hosts } = world.options
  const vms = [...(state?.vms.values() ?? [])]
  return {
    hosts: hosts.map(host => ({
      host,
      epoch: world.agent(host)?.epoch ?? 0,
      stands: standing(state, host),
      agent: world.agent(host)?.standing ?? 'away',
    })),
    volumes: [...(state?.volumes.values() ?? [])].map(({ name, owner, legs }) => ({
      volume: name,
      legs: Object.fromEntries(legs.map(({ leg, role }) => [leg, role])),
      owner: owner?.host ?? null,
      acts: acting(world, name, owner, answers),
    })),
    vms: vms.map(({ name, desired, placement }) => ({
      vm: name,
      desired,
      host: placement?.host ?? null,
      epoch: placement?.epoch ?? 0,
      phase: placement?.phase ?? 'unplaced',
    })),
    machines: hosts.flatMap(host =>
      (world.agent(host)?.machines ?? []).map(({ vm, epoch, state: is }) => ({ host, vm, epoch, state: is })),
    ),
    migrations: [...(state?.migrations.values() ?? [])]
      .filter(({ id, vm, phase }) => (phase !== 'done' && phase !== 'aborted') || state?.vms.get(vm)?.migration === id)
      .map(({ id, vm, phase }) => ({ migration: id, vm, phase })),
    disks: [...answers].flatMap(([volume, disks]) =>
      disks.map(({ disk, holder, reserved }) => ({
        volume,
        disk,
        vm: vms.find(vm => vm.disks.some(each => each.disk === disk && each.volume === volume))?.name ?? null,
        holder: holder && { host: holder.host, epoch: holder.epoch },
        reserved: reserved && { host: reserved.host, epoch: reserved.epoch },
      })),
    ),
    paths: hosts.flatMap(host =>
      (world.agent(host)?.paths ?? []).map(({ path, state: is }) => ({ host, path, state: is })),
    ),
  }
}

/** `up`, or what the coordinator thinks of it instead. */
function standing(state: CoordinatorState | undefined, name: string): string {
  const host = state?.hosts.get(name)
  const live = state?.liveHosts.get(name)
  if (host === undefined || live === undefined) return 'unknown to the coordinator'
  if (host.phase !== 'admitted') return host.phase
  if (live.session === null) return 'without a session'
  return live.verdict
}

/** `yes`, or what keeps it from acting. */
function acting(
  world: World,
  volume: string,
  owner: { readonly host: string; readonly epoch: number } | null,
  answers: ReadonlyMap<string, readonly DiskInfo[]>,
): string {
  if (owner === null) return 'is not there'
  const others = world.options.hosts.filter(
    host => host !== owner.host && world.agent(host)?.owned.some(each => each.volume === volume),
  )
  if (others.length > 0) return `is not the only one: ${others.join(', ')} still has it`
  const owned = world.agent(owner.host)?.owned.find(each => each.volume === volume)
  if (owned === undefined) return 'does not have it'
  if (owned.ownerEpoch !== owner.epoch) return `has it at epoch ${owned.ownerEpoch}, not ${owner.epoch}`
  if (owned.state !== 'serving') return `is ${owned.state}`
  return answers.has(volume) ? 'yes' : 'does not answer'
}
