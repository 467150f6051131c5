// Faults of storages that are plain NBD servers, and of what lies between them and the hosts. Such a storage refuses nobody, so the
// cluster counts on what a host had sent arriving within `ioDeadlineMs` of its death, or never (docs/FAULTS.md): a cable that is
// pulled here loses what is on its way, and nothing here holds it for longer.

import type { FaultContext, FaultKind } from './faults.ts'
import { FABRICS } from './world.ts'

/** Well below the shortest `ioDeadlineMs`, in which a request's bytes must be there, too. */
const SLOWEST_MS = 600

export const EXTERNAL_FAULTS: readonly FaultKind[] = [
  {
    name: 'external-kill',
    lasts: [300, 12_000],
    mayMiss: true,
    external: true,
    begin: ({ world, storage, struck }) => {
      const server = world.sim.host(storage).process(storage)
      if (server?.alive !== true) return () => undefined
      struck()
      server.kill()
      return () => world.external.start(storage)
    },
  },
  {
    name: 'external-cut',
    lasts: [500, 15_000],
    external: true,
    begin: context => {
      const { host, random } = context
      const { hosts } = context.world.options
      return lost(context, random.chance(0.7) ? [host] : hosts)
    },
  },
  {
    name: 'external-slow',
    lasts: [2_000, 15_000],
    external: true,
    begin: ({ world, storage, random }) => {
      const least = random.int(SLOWEST_MS / 2)
      return world.external.slow(storage, [least, least + random.int(SLOWEST_MS / 2)])
    },
  },
]

function lost({ world, storage, random }: FaultContext, hosts: readonly string[]): () => void {
  const network = random.chance(0.5) ? FABRICS : [FABRICS[random.int(2)]!]
  const match = { from: hosts, to: storage, bothWays: true, network }
  world.sim.network.reset(match)
  const cut = world.sim.network.rule({ ...match, verdict: 'hold' })
  return () => cut.heal()
}
