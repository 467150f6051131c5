// What the agents of a local cluster say of themselves, for when the coordinator is away.

import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { JOIN_TOKEN_FILE } from './cluster-file.ts'
import { ConsoleFollower } from './console-follower.ts'
import { clusterIn, tokenIn } from './directory.ts'

const WAIT_MS = 1_500

export interface AgentsView {
  readonly coordinator: 'away'
  readonly hosts: Record<string, { readonly name: string; readonly state: 'up' | 'unknown'; readonly vms: string[] }>
  readonly vms: Record<string, { readonly name: string; readonly state: string; readonly host: string }>
  readonly volumes: Record<string, never>
  readonly paths: Record<string, never>
}

/** Asks all of them at once, for a moment. Who does not answer is unknown, not down. */
export async function statusFromAgents(directory: string): Promise<AgentsView> {
  const cluster = await clusterIn(directory)
  const token = await tokenIn(directory, JOIN_TOKEN_FILE)
  const env = createEnvironment({ name: 'status', directory, store: memoryStore(), logLevel: 'silent' })
  const view: AgentsView = { coordinator: 'away', hosts: {}, vms: {}, volumes: {}, paths: {} }
  for (const { name } of cluster.hosts) view.hosts[name] = { name, state: 'unknown', vms: [] }
  const done = Promise.withResolvers<void>()
  const waiting = new Set(cluster.hosts.map(host => host.name))
  const follower = new ConsoleFollower({
    env,
    cluster: cluster.cluster,
    token,
    onLine: () => undefined,
    onMachines: (host, machines) => {
      view.hosts[host] = { name: host, state: 'up', vms: machines.map(machine => machine.vm).sort() }
      for (const machine of machines) view.vms[machine.vm] = { name: machine.vm, state: machine.state, host }
      waiting.delete(host)
      if (waiting.size === 0) done.resolve()
    },
  })
  follower.follow(
    cluster.hosts.map(({ name, port }) => ({ name, control: { network: 'cluster', host: cluster.address, port } })),
  )
  const timer = env.timers.after(WAIT_MS, () => done.resolve())
  await done.promise
  timer.cancel()
  follower.stop()
  await env.close()
  return view
}
