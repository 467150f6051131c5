// Who a container is: its engine names it PROJECT_SERVICE_NUMBER (or with hyphens), and calls it that with its network behind it,
// `stellwerk_agent_1.stellwerk_cluster`. From this follow the host's name in the cluster and the names that peers reach it by.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface ContainerName {
  /** In the cluster: `agent-1`. */
  readonly host: string
  /** Reached on that network only. */
  readonly onCluster: string
  /** Null: it is not on the guests' network. */
  readonly onGuest: string | null
}

/** Throws `no-name`. `names`: as the engine's name service has them for the container's addresses. */
export function containerName(names: readonly string[]): ContainerName {
  for (const name of names) {
    const found = /^(?<container>[A-Za-z0-9_.-]+)\.(?<project>[A-Za-z0-9_-]+)_cluster$/.exec(name)?.groups
    if (found === undefined) continue
    const { container = '', project = '' } = found
    const own = container.startsWith(project) ? container.slice(project.length + 1) : container
    const guest = `${container}.${project}_guest`
    return {
      host: own.replaceAll('_', '-'),
      onCluster: name,
      onGuest: names.includes(guest) ? guest : null,
    }
  }
  const known = names.length === 0 ? 'the name service knows no name of it' : `it is known as ${names.join(', ')}`
  throw new StellwerkError('no-name', `the container is not on a network whose name ends in _cluster: ${known}`, {
    hint: 'start it by docker compose, or set STELLWERK_HOST and STELLWERK_ADDRESS',
  })
}
