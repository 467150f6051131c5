// From the cluster file to what each of its processes is started with.

import type { GuardianConfig } from '@stellwerk/agent/guardian/guardian.ts'
import type { StorageRecord } from '@stellwerk/coordinator/core/state.ts'
import type { Address, NetworkName } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import type { StorageConfig } from '@stellwerk/storage/server.ts'
import type { CoordinatorProgram } from '../programs/coordinator.ts'
import type { ClusterFile } from './cluster-file.ts'

export const FABRICS: readonly NetworkName[] = ['fabric-0', 'fabric-1']
export const HOST_MEMORY_BYTES = GIB
export const HOSTS_MAX = 26
const STORAGES = ['san-a', 'san-b'] as const
const PORTS_PER_STORAGE = 5
/** Of the cluster network and of the guests'. */
export const PORTS_PER_HOST = 2

/** `host-a` … `host-z`. */
export function hostName(index: number): string {
  return `host-${String.fromCharCode('a'.charCodeAt(0) + index)}`
}

export function portsNeeded(hosts: number): number {
  return 2 + hosts * PORTS_PER_HOST + STORAGES.length * PORTS_PER_STORAGE
}

export function newCluster(options: {
  readonly cluster: string
  readonly profile: ClusterFile['profile']
  readonly address: string
  readonly hosts: number
  readonly memoryBytes: number
  readonly ports: readonly number[]
}): ClusterFile {
  const ports = [...options.ports]
  const port = () => ports.shift() ?? 0
  return {
    format: 1,
    cluster: options.cluster,
    profile: options.profile,
    address: options.address,
    coordinator: { port: port(), apiPort: port() },
    hosts: Array.from({ length: options.hosts }, (_, i) => ({
      name: hostName(i),
      port: port(),
      guestPort: port(),
      memoryBytes: options.memoryBytes,
    })),
    storages: STORAGES.map(name => ({
      name,
      portals: { 'fabric-0': port(), 'fabric-1': port() },
      control: { cluster: port(), 'fabric-0': port(), 'fabric-1': port() },
    })),
  }
}

export interface Tokens {
  readonly join: string
  readonly api: string
}

function storageRecord(file: ClusterFile, storage: ClusterFile['storages'][number]): StorageRecord {
  const at = (network: NetworkName, port: number): Address => ({ network, host: file.address, port })
  return {
    name: storage.name,
    portals: [at('fabric-0', storage.portals['fabric-0']), at('fabric-1', storage.portals['fabric-1'])],
    control: [
      at('cluster', storage.control.cluster),
      at('fabric-0', storage.control['fabric-0']),
      at('fabric-1', storage.control['fabric-1']),
    ],
  }
}

export function storageConfig(file: ClusterFile, tokens: Tokens, name: string): StorageConfig {
  const storage = file.storages.find(known => known.name === name)
  if (storage === undefined) throw new Error(`the cluster file has no storage ${name}`)
  return { ...storageRecord(file, storage), cluster: file.cluster, credential: tokens.join }
}

function coordinatorAddress(file: ClusterFile): Address {
  return { network: 'cluster', host: file.address, port: file.coordinator.port }
}

export function coordinatorConfig(file: ClusterFile, tokens: Tokens): CoordinatorProgram {
  return {
    coordinator: {
      cluster: file.cluster,
      token: tokens.join,
      profile: file.profile,
      listen: coordinatorAddress(file),
      storages: [
        ...file.storages.map(storage => storageRecord(file, storage)),
        ...(file.external ?? []).map(({ name, portals, exports }) => ({
          name,
          portals,
          control: [],
          external: { exports },
        })),
      ],
    },
    api: { host: file.address, port: file.coordinator.apiPort },
    apiToken: tokens.api,
    startsHosts: true,
  }
}

export function guardianConfig(file: ClusterFile, tokens: Tokens, name: string, supervise: boolean): GuardianConfig {
  const host = file.hosts.find(known => known.name === name)
  if (host === undefined) throw new Error(`the cluster file has no host ${name}`)
  return {
    cluster: file.cluster,
    token: tokens.join,
    host: name,
    coordinator: coordinatorAddress(file),
    supervise,
    agent: {
      listen: { network: 'cluster', host: file.address, port: host.port },
      ...(host.guestPort === undefined
        ? {}
        : { guest: { network: 'guest' as const, host: file.address, port: host.guestPort } }),
      ...(file.bridges === undefined ? {} : { bridges: file.bridges }),
      memoryBytes: host.memoryBytes,
      hbas: FABRICS,
      hypervisors: ['wasm', 'model', 'qemu'],
    },
  }
}
