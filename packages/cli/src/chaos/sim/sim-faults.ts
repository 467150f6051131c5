// How each fault of a plan is made in the simulator. Everything is drawn already, or from the world's own seed.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import type { NetworkName } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { MIB, SECOND_MS } from '@stellwerk/runtime/units.ts'
import { lunPath } from '../../simulation/durability.ts'
import { COORDINATOR_HOST, FABRICS, type World } from '../../simulation/world.ts'
import type { Fault } from '../fault.ts'
import { COORDINATOR } from '../plan/fault-table.ts'

/** Why the simulator can't do it; null: it can. `storages`: how many there are. */
export function simRefuses({ kind, network }: Fault, storages: number): StellwerkError | null {
  const refuse = (message: string, hint: string): StellwerkError =>
    new StellwerkError('fault-unsupported', `${kind}: ${message}`, { where: '--on sim', hint })
  if (network === 'guest') return refuse('a plan’s guests have no network there', 'name another network')
  if (kind === 'duplicate' && network !== undefined && network !== 'cluster') {
    return refuse(
      'only messages of the cluster’s network can come twice: a stream’s bytes can’t',
      'say network: cluster',
    )
  }
  if (kind === 'corrupt-block' && storages < 2) {
    return refuse('a volume with one leg has no good copy to be mended from', 'give the cluster two storages')
  }
  return null
}

/** What it is to hit is down, or stands still, already, or is not there: it adds nothing, and whatever took it down ends by itself. */
export function findsNothing({ sim }: World, { kind, host = '', storage = '' }: Fault): boolean {
  const stands = (name: string): boolean => sim.host(name).processes.every(({ paused }) => paused)
  switch (kind) {
    case 'agent-kill':
      return sim.host(host).process(`${host}/agent`)?.alive !== true
    case 'host-restart':
      return sim.host(host).process(`${host}/guardian`)?.alive !== true
    case 'host-kill':
      return !sim.host(host).powered
    case 'host-pause':
      return stands(host)
    case 'coordinator-kill':
      return !sim.host(COORDINATOR_HOST).powered
    case 'coordinator-pause':
      return stands(COORDINATOR_HOST)
    case 'storage-kill':
      return sim.host(storage).process(storage)?.alive !== true
    case 'storage-pause':
      return stands(storage)
    default:
      return false
  }
}

/** What the simulator's faults must know besides. */
export interface SimFaultContext {
  readonly random: SimRandom
  /** The LUN of the volume's leg on a storage, by name, whether or not a coordinator is there to be asked; null: it has none. */
  readonly lunOn: (storage: string) => string | null
  /** It has found nothing to hit after all. */
  readonly idle: () => void
}

/** Begins it; gives the way to end it. Only inside an event of the simulation. */
export function beginSimFault(world: World, fault: Fault, { random, lunOn, idle }: SimFaultContext): () => void {
  const { sim, options } = world
  const { host = '', storage = '', chance = 1, delayMs = 0, jitterMs = 0 } = fault
  const { network } = sim
  const heal =
    (...faults: readonly { heal(): void }[]) =>
    () => {
      for (const each of faults) each.heal()
    }
  switch (fault.kind) {
    case 'agent-kill':
      sim.host(host).process(`${host}/agent`)?.kill()
      return () => world.startHost(host)
    case 'host-kill':
      sim.host(host).crash({ unsynced: 'torn' })
      return () => world.startHost(host)
    case 'host-pause':
      sim.host(host).pause()
      return () => wake(world, host, random)
    case 'host-restart':
      sim.host(host).process(`${host}/guardian`)?.stop()
      return () => startOnceEnded(world, host)
    case 'coordinator-kill':
      sim.host(COORDINATOR_HOST).crash({ unsynced: 'lost' })
      return () => world.startCoordinator()
    case 'coordinator-pause':
      sim.host(COORDINATOR_HOST).pause()
      return () => sim.host(COORDINATOR_HOST).resume()
    case 'storage-kill':
      sim.host(storage).process(storage)?.kill()
      return () => world.startStorage(storage)
    case 'storage-pause':
      sim.host(storage).pause()
      return () => sim.host(storage).resume()
    case 'host-isolate':
      return heal(fault.fabrics === false ? network.isolate(host, { network: 'cluster' }) : network.isolate(host))
    case 'partition': {
      const peer = fault.peer === COORDINATOR ? COORDINATOR_HOST : (fault.peer ?? '')
      const oneWay = fault.oneWay === true
      return heal(network.cut(host, peer, { ...on(fault), oneWay }))
    }
    case 'ports-closed': {
      const to = fault.peer === COORDINATOR ? COORDINATOR_HOST : (fault.peer ?? '')
      const between = { from: host, to, bothWays: true, ...on(fault) } as const
      const refused = network.refuseDials(between)
      network.reset(between)
      return heal(refused)
    }
    case 'loss':
      return heal(network.slow({ from: host, bothWays: true, ...on(fault) }, { loss: chance }))
    case 'delay':
      return heal(network.slow({ from: host, bothWays: true, ...on(fault) }, { delayMs, jitterMs }))
    case 'slow-link': {
      const bytesPerMs = ((fault.mibPerSecond ?? 1) * MIB) / SECOND_MS
      return heal(network.slow({ from: host, bothWays: true, ...on(fault) }, { bytesPerMs }))
    }
    case 'duplicate': {
      const links = { from: host, bothWays: true, class: 'control' } as const
      world.repeated.begin(host, chance)
      network.reset(links)
      return () => {
        world.repeated.end(host)
        network.reset(links)
      }
    }
    case 'cable-pull': {
      const fabric = FABRICS[fault.fabric ?? 0]!
      const cut = network.cut(host, options.storages, { network: fabric })
      // What was connected is reset at once, or notices in time.
      if (random.chance(0.5)) network.reset({ from: host, to: options.storages, bothWays: true, network: fabric })
      return heal(cut)
    }
    case 'fabric-down':
      return heal(network.cut(options.hosts, options.storages, { network: FABRICS[fault.fabric ?? 0]! }))
    case 'disk-slow':
      return heal(
        sim.host(storage).disk.fault({ operation: ['read', 'write', 'sync'], verdict: { delayMs, jitterMs } }),
      )
    case 'disk-full': {
      const { disk } = sim.host(storage)
      // What is there may be written again; for more there is no room.
      disk.setQuota(disk.allocatedBytes)
      return () => disk.setQuota(Number.POSITIVE_INFINITY)
    }
    case 'io-error': {
      const errors = ioErrors(world, storage, lunOn(storage), chance)
      if (errors.length === 0) idle()
      return heal(...errors)
    }
    case 'corrupt-block': {
      const volumes: string[] = []
      void world.rot
        .begin(storage, random, volume => volumes.push(volume))
        .then(() => {
          if (volumes.length === 0) idle()
        })
      // Somebody is told of it in the end, and names the good leg.
      return () => {
        for (const volume of volumes) world.scrubs.call(volume, false)
      }
    }
    case 'clock-jump': {
      const byMs = fault.byMs ?? 0
      sim.host(host).jumpWall(byMs)
      return () => sim.host(host).jumpWall(-byMs)
    }
    default:
      return unreachable(fault.kind)
  }
}

/** Everything: of the network, hosts, disks and processes. */
export function healWorld(world: World): void {
  const { sim, options } = world
  sim.network.healAll()
  for (const host of sim.hosts) {
    host.resume()
    host.disk.healAll()
    host.disk.setQuota(Number.POSITIVE_INFINITY)
  }
  for (const storage of options.storages) world.startStorage(storage)
  world.startCoordinator()
  for (const host of options.hosts) startOnceEnded(world, host)
}

const on = ({ network }: Fault): { network?: NetworkName } => (network === undefined ? {} : { network })

/** Who wakes first is the machine's whim: an agent may run before its guardian. */
function wake(world: World, host: string, random: SimRandom): void {
  const sleepers = [...world.sim.host(host).processes]
  while (sleepers.length > 0) sleepers.splice(random.int(sleepers.length), 1)[0]?.resume()
}

const AGAIN_MS = 200
/** A host that has not ended in order by then is not going to. */
const ENDING_MAX_MS = 15_000

/** A host that is still ending in order is started when it has ended. */
function startOnceEnded(world: World, host: string, leftMs = ENDING_MAX_MS): void {
  world.startHost(host)
  if (leftMs > 0) world.sim.after(AGAIN_MS, () => startAgainIfEnded(world, host, leftMs - AGAIN_MS))
}

function startAgainIfEnded(world: World, host: string, leftMs: number): void {
  // Switched off since by another fault, which will start it itself.
  if (!world.sim.host(host).powered) return
  startOnceEnded(world, host, leftMs)
}

function ioErrors(world: World, storage: string, lun: string | null, chance: number): { heal(): void }[] {
  const path = lun === null ? null : lunPath(world, storage, lun)
  if (path === null) return []
  const { disk } = world.sim.host(storage)
  return [disk.fault({ process: storage, path, operation: ['read', 'write', 'punch'], verdict: 'EIO', chance })]
}
