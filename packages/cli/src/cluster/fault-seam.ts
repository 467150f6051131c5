// How a local cluster's processes are started so that they can be told faults: the file of the rules, and an address on loopback
// for each node to dial from, by which its peers know it.

import { join } from 'node:path'
import type { FaultSwitch } from '@stellwerk/runtime/node/faults/environment-faults.ts'
import type { FaultRules } from '@stellwerk/runtime/node/faults/fault-rules.ts'
import type { ClusterFile } from './cluster-file.ts'

/** In the cluster's directory: of those who break it. */
export const CHAOS_DIRECTORY = 'chaos'
/** There only while the cluster's processes go by it. */
export const RULES_FILE = `${CHAOS_DIRECTORY}/rules.json`

/** `host-a`, `san-b`, `coordinator`. */
export function nodesOf({ hosts, storages }: ClusterFile): string[] {
  return ['coordinator', ...storages.map(({ name }) => name), ...hosts.map(({ name }) => name)]
}

/** Of `host-a/guardian` it is host-a's. */
export function faultSwitch(directory: string, file: ClusterFile, process: string): FaultSwitch {
  const node = process.split('/')[0] ?? process
  return { file: join(directory, RULES_FILE), source: sourceOf(file, node) }
}

/** Told apart by the port of each, which is its alone and stays the same. */
function sourceOf(file: ClusterFile, node: string): string {
  const port =
    file.hosts.find(({ name }) => name === node)?.port ??
    file.storages.find(({ name }) => name === node)?.control.cluster ??
    file.coordinator.port
  return `127.90.${port >> 8}.${port & 255}`
}

/** Who is who, by source address and port. */
export function whoIsWho(file: ClusterFile): Pick<FaultRules, 'nodes' | 'ports'> {
  const nodes = Object.fromEntries(nodesOf(file).map(node => [sourceOf(file, node), node]))
  const ports: Record<string, string> = { [file.coordinator.port]: 'coordinator' }
  for (const { name, port, guestPort } of file.hosts) {
    ports[port] = name
    if (guestPort !== undefined) ports[guestPort] = name
  }
  for (const { name, portals, control } of file.storages) {
    for (const port of [...Object.values(portals), ...Object.values(control)]) ports[port] = name
  }
  return { nodes, ports }
}
