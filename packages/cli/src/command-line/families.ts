// Which file has the commands that begin with which word. Loaded when asked for: a status need not load a hypervisor.

import type { CommandSpec } from './command.ts'

type Family = () => Promise<{ readonly commands: readonly CommandSpec[] }>

const looking: Family = () => import('../commands/status.ts')
const upAndDown: Family = () => import('../commands/up.ts')
const serving: Family = () => import('../commands/serve.ts')

export const FAMILIES: { readonly [word: string]: Family } = {
  up: upAndDown,
  down: upAndDown,
  status: looking,
  events: looking,
  why: looking,
  network: () => import('../commands/network.ts'),
  path: () => import('../commands/path.ts'),
  vm: () => import('../commands/vm.ts'),
  host: () => import('../commands/host.ts'),
  volume: () => import('../commands/volume.ts'),
  disk: () => import('../commands/disk.ts'),
  lun: () => import('../commands/lun.ts'),
  image: () => import('../commands/image.ts'),
  trace: () => import('../commands/trace.ts'),
  cluster: () => import('../commands/cluster.ts'),
  demo: () => import('../demo/command.ts'),
  sim: () => import('../simulation/command.ts'),
  bench: () => import('../commands/bench.ts'),
  chaos: () => import('../commands/chaos.ts'),
  container: () => import('../commands/container.ts'),
  coordinator: serving,
  agent: serving,
  storage: serving,
}
