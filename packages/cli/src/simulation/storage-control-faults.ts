// Faults of the links over which the coordinator orders and asks the storages: which storage it reaches is one thing, which the
// hosts reach another.

import type { NetworkName } from '@stellwerk/runtime/environment.ts'
import type { FaultContext, FaultKind } from './faults.ts'
import { COORDINATOR_HOST, FABRICS } from './world.ts'

const NETWORKS: readonly NetworkName[] = ['cluster', ...FABRICS]

const ofStorage = ({ storage }: FaultContext) => ({ from: COORDINATOR_HOST, to: storage, bothWays: true }) as const

function orderOf<T>({ random }: FaultContext, a: T, b: T): readonly [T, T] {
  return random.chance(0.5) ? [a, b] : [b, a]
}

export const STORAGE_CONTROL_FAULTS: readonly FaultKind[] = [
  {
    // What is ordered is done and never answered, or what is ordered never comes.
    name: 'storage-control-one-way',
    lasts: [1_000, 12_000],
    begin: context => {
      const [from, to] = orderOf(context, COORDINATOR_HOST, context.storage)
      const cut = context.world.sim.network.cut(from, to, { oneWay: true })
      return () => cut.heal()
    },
  },
  {
    // Some of its networks: the link has to be made anew over another, while orders may be under way on it.
    name: 'storage-control-partial',
    lasts: [1_000, 15_000],
    begin: context => {
      const { world, storage, random } = context
      const left = random.int(NETWORKS.length)
      const network = NETWORKS.filter((_, i) => i !== left)
      const cut = world.sim.network.cut(COORDINATOR_HOST, storage, { network })
      if (random.chance(0.5)) world.sim.network.reset({ ...ofStorage(context), network })
      return () => cut.heal()
    },
  },
  {
    name: 'storage-control-slow',
    lasts: [2_000, 15_000],
    begin: context => {
      const { world, random } = context
      const shape = { delayMs: 5 + random.int(400), jitterMs: 100, loss: random.float() * 0.2 }
      const slow = world.sim.network.slow(ofStorage(context), shape)
      return () => slow.heal()
    },
  },
  {
    // Held, and then all of it at once, when it may long be past.
    name: 'storage-control-clog',
    lasts: [500, 8_000],
    begin: context => {
      const clog = context.world.sim.network.clog(ofStorage(context))
      return () => clog.heal()
    },
  },
]
