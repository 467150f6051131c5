// Looks at all cables again and again and puts on record who reaches which storage without a fault on the way: the ground
// truth that RIO1 and RIO2 are judged by (`reach.observed`). It judges nothing.

import type { NetworkName } from '@stellwerk/runtime/environment.ts'
import type { TrafficClass } from '@stellwerk/runtime/network-rules.ts'
import { FABRICS, PORT, type World } from './world.ts'

const LOOK_MS = 250

export function watchReach(world: World): void {
  const { sim } = world
  const look = (): void => {
    sim.emit({ level: 'io', kind: 'reach.observed', body: { paths: observe(world) } })
    sim.after(LOOK_MS, look)
  }
  look()
}

function observe(world: World) {
  const { hosts, storages } = world.options
  // As the host itself has been told: what an operator has said may still be on its way to it.
  const disabled = new Map(hosts.map(host => [host, world.agent(host)?.disabled ?? []] as const))
  return storages.flatMap(storage => {
    const direct = new Map(hosts.map(host => [host, fabricsTo(world, host, storage)] as const))
    const reaches = (host: string): boolean => (direct.get(host) ?? []).length > 0
    return hosts.map(host => ({
      host,
      storage,
      direct: reaches(host),
      wanted: (direct.get(host) ?? []).some(fabric => !disabled.get(host)?.some(each => each === fabric)),
      linked: acts(world, host) && hosts.some(peer => peer !== host && reaches(peer) && areLinked(world, host, peer)),
    }))
  })
}

/** Fabrics over which the host reaches the storage without a fault, both being up. */
function fabricsTo(world: World, host: string, storage: string): NetworkName[] {
  const machine = world.sim.host(storage)
  const server = machine.process(storage)
  if (!acts(world, host) || server?.alive !== true || server.paused || machine.disk.faulty) return []
  return FABRICS.filter(
    network =>
      isClean(world, network, host, storage, 'stream', PORT.nbd) &&
      isClean(world, network, host, storage, 'control', PORT.control),
  )
}

function areLinked(world: World, host: string, peer: string): boolean {
  return (['control', 'io'] as const).every(each => isClean(world, 'cluster', host, peer, each, PORT.agent))
}

function acts(world: World, host: string): boolean {
  const agent = world.sim.host(host).process(`${host}/agent`)
  return agent?.alive === true && !agent.paused
}

/** No rule is on it, either way. */
function isClean(
  { sim }: World,
  network: NetworkName,
  from: string,
  to: string,
  trafficClass: TrafficClass,
  port: number,
): boolean {
  return [
    { from, to },
    { from: to, to: from },
  ].every(way => {
    const process = { fromProcess: '', toProcess: '' }
    const { rules, state } = sim.network.path({ network, ...way, class: trafficClass, ...process, port })
    return state === 'open' && rules.length === 0
  })
}
