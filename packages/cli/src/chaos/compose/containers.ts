// The containers of a compose project as nodes of the cluster: `agent-1`, `san-b`, `coordinator`.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { ChaosCluster } from '../target.ts'
import type { Docker } from './docker.ts'

export interface Container {
  readonly node: string
  /** As the engine calls it. */
  readonly name: string
}

const LABEL = 'com.docker.compose'
const FORMAT = `{{.Names}} {{.Label "${LABEL}.service"}} {{.Label "${LABEL}.container-number"}}`
const STORAGES = ['san-a', 'san-b']
/** What makes things and ends is no part of the cluster. */
const PARTS = new Set(['agent', 'coordinator', ...STORAGES])

export async function containersOf(docker: Docker, project: string): Promise<readonly Container[]> {
  const filter = `label=${LABEL}.project=${project}`
  const said = await docker.run('ps', '-a', '--no-trunc', '--filter', filter, '--format', FORMAT)
  return parseContainers(said)
}

export function parseContainers(said: string): readonly Container[] {
  const containers: Container[] = []
  for (const line of said.split('\n')) {
    const [name = '', service = '', number = ''] = line.trim().split(' ')
    if (!PARTS.has(service)) continue
    containers.push({ node: service === 'agent' ? `agent-${number}` : service, name })
  }
  return containers.sort((a, b) => (a.node < b.node ? -1 : 1))
}

export function clusterOf(containers: readonly Container[]): ChaosCluster {
  const nodes = containers.map(({ node }) => node)
  return {
    hosts: nodes.filter(node => node.startsWith('agent-')),
    storages: nodes.filter(node => STORAGES.includes(node)),
  }
}

export interface Attachment {
  /** The engine's name of the network. */
  readonly network: string
  readonly aliases: readonly string[]
  readonly address: string
}

/** What a container's cables lead to, by the cluster's name of the network: `fabric-0`. */
export async function attachmentsOf(
  docker: Docker,
  project: string,
  container: string,
): Promise<ReadonlyMap<string, Attachment>> {
  const said = await docker.run('inspect', '--format', '{{.Id}} {{json .NetworkSettings.Networks}}', container)
  const at = said.indexOf(' ')
  return parseAttachments(said.slice(0, at), JSON.parse(said.slice(at + 1)), project)
}

interface Inspected {
  readonly [network: string]: { readonly Aliases?: readonly string[] | null; readonly IPAddress?: string }
}

export function parseAttachments(id: string, networks: Inspected, project: string): ReadonlyMap<string, Attachment> {
  const found = new Map<string, Attachment>()
  for (const [network, { Aliases, IPAddress }] of Object.entries(networks)) {
    if (!network.startsWith(`${project}_`)) continue
    // The engine adds the container's own short id by itself.
    const aliases = (Aliases ?? []).filter(alias => !id.startsWith(alias))
    found.set(network.slice(project.length + 1), { network, aliases, address: IPAddress ?? '' })
  }
  return found
}

export function containerOf(containers: readonly Container[], node: string): Container {
  const found = containers.find(container => container.node === node)
  if (found !== undefined) return found
  throw new StellwerkError('unknown-node', `the project has no container for "${node}"`, {
    hint: `it has ${containers.map(container => container.node).join(', ')}`,
  })
}
