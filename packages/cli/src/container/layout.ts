// Where the processes of a cluster in containers listen, and by which names they find each other: each network of the cluster is
// one of the engine's, and a name there ends in the network's, so that a container that is taken from it is not found on it.

import type { StorageRecord } from '@stellwerk/coordinator/core/state.ts'
import type { Address, NetworkName } from '@stellwerk/runtime/environment.ts'

/** The self-checking guest of real machines, made with the image that has QEMU. */
export const MACHINE_IMAGE = '/opt/stellwerk/tiny.img'

export const STORAGES = ['san-a', 'san-b'] as const
/** Of all its addresses: which one is asked decides what can be reached. */
const ANY = '0.0.0.0'

/** A port for each network: all of them are listened to on every address. */
const PORT = {
  coordinator: 7400,
  api: 7401,
  control: { cluster: 7410, 'fabric-0': 7411, 'fabric-1': 7412 },
  portal: { 'fabric-0': 10_809, 'fabric-1': 10_810 },
  agent: 7420,
  guest: 7421,
} as const

export const COORDINATOR: Address = at('cluster', 'coordinator.cluster', PORT.coordinator)
export const COORDINATOR_LISTEN: Address = at('cluster', ANY, PORT.coordinator)
export const API = { host: 'coordinator.cluster', port: PORT.api } as const
export const API_LISTEN = { host: ANY, port: PORT.api } as const

export const agentListen = { control: at('cluster', ANY, PORT.agent), guest: at('guest', ANY, PORT.guest) } as const

export function agentAt(onCluster: string, onGuest: string | null): { control: Address; guest?: Address } {
  return {
    control: at('cluster', onCluster, PORT.agent),
    ...(onGuest === null ? {} : { guest: at('guest', onGuest, PORT.guest) }),
  }
}

/** As others reach it, or as it listens itself. */
export function storageRecord(name: string, listens = false): StorageRecord {
  const host = (network: NetworkName): string => (listens ? ANY : `${name}.${network}`)
  const control = (network: keyof typeof PORT.control) => at(network, host(network), PORT.control[network])
  const portal = (network: keyof typeof PORT.portal) => at(network, host(network), PORT.portal[network])
  return {
    name,
    portals: [portal('fabric-0'), portal('fabric-1')],
    control: [control('cluster'), control('fabric-0'), control('fabric-1')],
  }
}

function at(network: NetworkName, host: string, port: number): Address {
  return { network, host, port }
}
